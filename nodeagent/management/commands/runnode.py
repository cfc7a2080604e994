"""`manage.py runnode --name NAME`: one node, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import re
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from mmproject.conf import conf
from mmproject.db import connect_url
from mmproject.errors import UsageError
from nodeagent import history
from nodeagent.agent import Agent, NodeOptions

NODE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

HELP = """Run one node of the market maker until SIGTERM or Ctrl-C.

The node registers under its name, takes its share of the symbols, and quotes them for as long as the database says
that they are its own. Any number of nodes may run, on any host that reaches the database; symbols move by themselves
when one joins, leaves, hangs or dies. Stopped with SIGTERM or Ctrl-C it hands its symbols over (at most 2 s); a second
signal ends it at once.

  DATABASE_URL=postgresql://mm_node:PASSWORD@HOST/market manage.py runnode --name node-4

DATABASE_URL is that of the role mm_node; without it, the system that `manage.py up` runs in this folder is used.
MM_LEASE_TTL_MS, MM_RENEW_INTERVAL_MS, MM_BELIEF_MARGIN_MS, MM_QUOTE_VALIDITY_MS and MM_QUOTE_REFRESH_MS set its times.
With MM_HISTORY it records what it asks and is told there, for `manage.py history`.
What it does is on stderr, one JSON object a line; MM_LOG_LEVEL=DEBUG shows each renewal too.

Exit status: 0 stopped as told, 1 failed, 2 used wrongly."""


class Command(BaseCommand):
    help = HELP
    requires_system_checks: list[str] = []  # a node uses none of what they check, and should start fast

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        # The help above has its own line breaks.
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--name", required=True, help="name of the node, unique among those that run: 1 to 63 of a-z, 0-9 and -"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        name = options["name"]
        if not NODE_NAME.fullmatch(name):
            raise UsageError(f"--name {name!r}: a node name is 1 to 63 of a-z, 0-9 and -, not starting with -")
        agent = NodeOptions.of(name, connect_url("node"), conf)
        if conf.history:
            history.record(Path(conf.history), name)
        # What start-up has made stays for good: kept out of collections, which would stop the loop for tens of ms.
        gc.collect()
        gc.freeze()
        asyncio.run(run(agent))


async def run(options: NodeOptions) -> None:
    await Agent(options).run()
