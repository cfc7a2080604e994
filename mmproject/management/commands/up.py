"""`manage.py up`: see mmproject.up."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import Any

from django.core.management.base import CommandParser

from mmproject.cli import Command as BaseCommand
from mmproject.conf import NODES_MAX, SYMBOLS_MAX, conf
from mmproject.errors import UsageError
from mmproject.up import Up


class Command(BaseCommand):
    help = "Run the whole system on this machine until Ctrl-C."
    needs_database = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--nodes", type=int, default=conf.nodes, help=f"how many nodes ({conf.nodes})")
        parser.add_argument("--port", type=int, default=conf.port, help=f"the console's port ({conf.port})")
        parser.add_argument(
            "--symbols", type=int, default=conf.symbols, help=f"at least so many symbols ({conf.symbols})"
        )
        parser.add_argument("--seed", type=int, default=None, help="of a new market's prices and orders (1)")

    def handle(self, *args: Any, **options: Any) -> None:
        limits = {"nodes": (0, NODES_MAX), "port": (1, 65_535), "symbols": (1, SYMBOLS_MAX)}
        for name, (low, high) in limits.items():
            if not low <= options[name] <= high:
                raise UsageError(f"--{name} must be from {low} to {high}, not {options[name]}")
        seed = options["seed"]
        if seed is None and "MM_SEED" in os.environ:
            seed = conf.seed
        if seed is not None and not 0 <= seed < 2**31:
            raise UsageError(f"--seed must be from 0 to {2**31 - 1}, not {seed}")
        settings = dataclasses.replace(conf, **{name: options[name] for name in limits})
        sys.exit(Up(settings, seed).run())
