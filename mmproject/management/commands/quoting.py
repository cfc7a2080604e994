"""`manage.py quoting`: the kill switch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandParser

from exchange.errors import SymbolsLocked
from exchange.services import Toggle, set_quoting
from mmproject.cli import Command as BaseCommand
from mmproject.cli import actor, add_json_option
from mmproject.errors import UsageError


class Command(BaseCommand):
    help = "The kill switch: turn quoting on or off for some symbols or for all."
    epilog = (
        "Off withdraws the live quotes in the same commit: no fill can follow it.\n"
        "Each symbol turned leaves an audit row with who, when, before and after. One whose row somebody\n"
        "else keeps locked cannot be turned: it is named, with exit 1, and the others are turned all the same.\n\n"
        "examples:\n"
        '  manage.py quoting off ALFA BRAVO --reason "feed looks wrong"\n'
        "  manage.py quoting on --all"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("state", choices=("on", "off"), metavar="on|off")
        parser.add_argument("symbols", nargs="*", metavar="SYMBOL")
        parser.add_argument("--all", action="store_true", help="every symbol")
        parser.add_argument("--reason", default="", metavar="TEXT", help="why, for the audit")
        add_json_option(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        symbols, everything = list(dict.fromkeys(options["symbols"])), options["all"]
        if everything and symbols:
            raise UsageError("name symbols or say --all, not both")
        if not everything and not symbols:
            raise UsageError("name at least one symbol, or say --all")
        enabled = options["state"] == "on"
        who, reason = actor(), options["reason"]
        failed: SymbolsLocked | None = None
        try:
            toggles: Sequence[Toggle] = set_quoting(None if everything else symbols, enabled, who, reason)
        except SymbolsLocked as error:
            failed, toggles = error, error.changed
        if options["json"]:
            left = list(failed.left) if failed else []
            self.emit({"enabled": enabled, "actor": who, "reason": reason, "symbols": toggles, "locked": left})
        else:
            for toggle in toggles:
                already = " (as before)" if toggle["before"] == toggle["after"] else ""
                self.stdout.write(f"{toggle['symbol']}: quoting {options['state']}{already}")
        if failed:
            raise failed
