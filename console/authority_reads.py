"""What the authority page draws: tenures, lives of nodes, generations, refused writes; all, or what has changed.

The statements are in console/sql and answer with the text that goes to the page; nothing here looks into it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mmproject.query import value

_SQL = Path(__file__).resolve().parent / "sql"
HISTORY: Final = (_SQL / "authority_history.sql").read_text(encoding="utf-8")
CHANGES: Final = (_SQL / "authority_changes.sql").read_text(encoding="utf-8")

# What the page can look back on, in seconds.
RANGES_S: Final = {"5m": 300, "1h": 3_600, "24h": 86_400}
TENURES_MAX: Final = 30_000  # 2 MB on the wire; more bars than that are no picture
LIVES_MAX: Final = 200  # a node that dies every second leaves so many in three minutes
REFUSALS_MAX: Final = 500
GENERATIONS_MAX: Final = 100
ENTRIES_MAX: Final = 20_000  # of the journal, to find what has changed; beyond that all is read anew


def history(last_s: int) -> str:
    """The last `last_s` seconds, as JSON."""
    most = {"tenures": TENURES_MAX, "lives": LIVES_MAX, "refusals": REFUSALS_MAX, "generations": GENERATIONS_MAX}
    text = value(HISTORY, {"last_s": last_s, **most})
    assert isinstance(text, str)
    return text


def changes(after: int, last_s: int) -> str:
    """What has changed since the answer whose horizon was `after`, as JSON; all of it where that cannot be told."""
    text = value(CHANGES, {"after": str(after), "entries": ENTRIES_MAX, "refusals": REFUSALS_MAX})
    return history(last_s) if text is None else str(text)
