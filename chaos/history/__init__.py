"""Histories: what processes asked and were told during a run, checked afterwards against what a correct system may say.

`check(folder, connection)` does it all. See docs/history.md.
"""

from chaos.history.check import Report, check

__all__ = ["Report", "check"]
