"""Several nodes in one process, each with its own sessions: `python -m bench.many_nodes --names a,b,c`. For bench."""

from __future__ import annotations

import asyncio
import sys

from mmproject import logs
from mmproject.conf import conf
from mmproject.db import connect_url
from nodeagent.agent import Agent, NodeOptions


async def run(names: list[str]) -> None:
    url = connect_url("node")
    await asyncio.gather(*(Agent(NodeOptions.of(name, url, conf)).run() for name in names))


def main() -> None:
    logs.configure({"level": conf.log_level, "process": conf.process})
    asyncio.run(run(sys.argv[sys.argv.index("--names") + 1].split(",")))


if __name__ == "__main__":
    main()
