"""`manage.py bench`: what the system costs, each figure beside its floor in the same run. See docs/performance.md."""
