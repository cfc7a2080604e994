"""A model of the lease protocol, small enough to look at every state of it. See docs/model.md; `make model` runs it.

Nothing here imports Django or touches a database: the actions are linked to the SQL functions by name, and
tests/unit/test_model.py holds the link.
"""
