"""`manage.py token`: API tokens made, listed, revoked."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from accounts import services
from accounts.models import ApiToken
from mmproject.cli import Command as BaseCommand
from mmproject.cli import add_json_option, utc_text


class Command(BaseCommand):
    help = "API tokens: create, list, revoke. A token has its user's permissions and is shown once, when it is made."
    epilog = "examples:\n  manage.py token create --user operator --name laptop\n  manage.py token revoke 3"

    def add_arguments(self, parser: Any) -> None:
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
        create = actions.add_parser("create", help="make a token and print it")
        create.add_argument("--user", default=services.OPERATOR_USERNAME, help="whose token (default: operator)")
        create.add_argument("--name", required=True, help="what it is for")
        listing = actions.add_parser("list", help="show whose tokens there are")
        revoke = actions.add_parser("revoke", help="end a token; it is refused everywhere within seconds")
        revoke.add_argument("id", type=int, help="its number in the list")
        for action in (create, listing, revoke):
            add_json_option(action)

    def handle(self, *args: Any, **options: Any) -> None:
        match options["action"]:
            case "create":
                token = services.create_token(username=options["user"], name=options["name"])
                answer: Any = {"user": options["user"], "name": options["name"], "token": token}
                text = token
            case "revoke":
                services.revoke_token(options["id"])
                answer, text = {"id": options["id"], "revoked": True}, f"token {options['id']} is revoked"
            case _:
                self._list(as_json=options["json"])
                return
        if options["json"]:
            self.emit(answer)
        else:
            self.stdout.write(text)

    def _list(self, *, as_json: bool) -> None:
        tokens = list(ApiToken.objects.select_related("user").order_by("pk"))
        if as_json:
            self.emit(
                [
                    {
                        "id": token.pk,
                        "user": token.user.get_username(),
                        "name": token.name,
                        "created_at": token.created_at,
                        "last_used_at": token.last_used_at,
                    }
                    for token in tokens
                ]
            )
            return
        table = Table("id", "user", "name", "created", "last used", box=None)
        for token in tokens:
            used = utc_text(token.last_used_at)[:16] if token.last_used_at else "never"
            table.add_row(str(token.pk), token.user.get_username(), token.name, utc_text(token.created_at)[:16], used)
        self.console.print(table)
