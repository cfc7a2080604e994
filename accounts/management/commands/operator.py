"""`manage.py operator reset-password`: a way back in."""

from __future__ import annotations

from typing import Any

from accounts import services
from mmproject.cli import Command as BaseCommand
from mmproject.cli import add_json_option
from mmproject.conf import conf


class Command(BaseCommand):
    help = "The first operator's login: give it a new password and a new token, kept in var/operator.json."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("action", choices=["reset-password"], help="the old password and token end")
        add_json_option(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        path = conf.var / "operator.json"
        credentials = services.reset_operator(path=path)
        if options["json"]:
            self.emit(credentials)
        else:
            self.stdout.write(f"username  {credentials.username}\npassword  {credentials.password}")
            self.stdout.write(f"token     {credentials.token}\nkept in   {path}")
