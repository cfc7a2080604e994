"""A node that goes on quoting until it is refused, whatever the clock, its renewals or the tables tell it.

What stops it is the fence alone. For tests and measurements only.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from bench.bare_node import main
from nodeagent import quoter, reconciler, session
from nodeagent.authority_client import Claim, Renewal
from nodeagent.connections import TryAgain

refused_ones: set[UUID] = set()
renew = session.Session._renew
adopt = reconciler.Reconciler._adopt
tell = quoter.Quoter._tell


async def trusting_renew(self: session.Session) -> Renewal | None:
    renewal = await renew(self)
    if renewal is None and self.incarnation not in refused_ones:
        raise TryAgain("not renewed, and not believed")
    return renewal


def trusting_adopt(self: reconciler.Reconciler, held: list[Claim]) -> None:
    if held or not len(self._holdings) or self._session.incarnation in refused_ones:
        adopt(self, held)


def trusting_tell(self: quoter.Quoter, accepted: Mapping[str, object], refused: Mapping[str, list[int | str]]) -> None:
    if refused:
        refused_ones.add(self.incarnation)
    tell(self, accepted, refused)


if __name__ == "__main__":
    changes = [
        (session.Belief, "left_s", lambda _belief: 1.0),
        (session.Session, "_renew", trusting_renew),
        (reconciler.Reconciler, "_adopt", trusting_adopt),
        (quoter.Quoter, "_tell", trusting_tell),
    ]
    for owner, name, change in changes:
        setattr(owner, name, change)
    main()
