"""Several nodes in one process, each with its own sessions: `python -m bench.many_nodes --names a,b,c`. For bench."""

from __future__ import annotations

import asyncio
import signal
import sys

from mmproject import logs
from mmproject.conf import conf
from mmproject.db import connect_url
from nodeagent.agent import Agent, NodeOptions


async def run(names: list[str]) -> None:
    url = connect_url("node")
    agents = [Agent(NodeOptions.of(name, url, conf)) for name in names]
    running = [asyncio.create_task(agent.run()) for agent in agents]
    await asyncio.sleep(0)  # each has taken the signals for itself; they are for all of them

    def stop() -> None:
        for agent in agents:
            agent.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await asyncio.gather(*running)


def main() -> None:
    logs.configure({"level": conf.log_level, "process": conf.process})
    asyncio.run(run(sys.argv[sys.argv.index("--names") + 1].split(",")))


if __name__ == "__main__":
    main()
