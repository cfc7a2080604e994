"""Bugs planted on purpose: what the tests are worth is how many of them they catch.

`make planted-bugs` copies the project, plants one bug at a time in the copy, and runs the test that is to catch it.
The bugs are data (`registry.py` puts them together); the runner is `__main__.py`.
"""
