"""Django's PostgreSQL backend for a DATABASE_URL with several servers."""
