"""What `manage.py runnode` runs, without Django around it: for tests and benchmarks that start many nodes."""

from __future__ import annotations

import asyncio
import sys

from mmproject import logs
from mmproject.conf import conf
from mmproject.db import connect_url
from nodeagent.agent import Agent, NodeOptions


async def run(options: NodeOptions) -> None:
    await Agent(options).run()


def main() -> None:
    logs.configure({"level": conf.log_level, "process": conf.process})
    asyncio.run(run(NodeOptions.of(sys.argv[sys.argv.index("--name") + 1], connect_url("node"), conf)))


if __name__ == "__main__":
    main()
