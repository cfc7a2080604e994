"""`manage.py cleandata`: remove var/, which `make clean-data` asks for."""

from __future__ import annotations

import shutil
from typing import Any

from mmproject.cli import Command as BaseCommand
from mmproject.conf import conf
from mmproject.errors import UserError
from mmproject.postgres import cluster_of
from mmproject.up import holder

NAMES = ("postgres", "postgres.new", "run", "log", "secrets", "operator.json", "up.lock")


class Command(BaseCommand):
    help = "Remove the data below var/: the database, logs and logins."
    needs_database = False

    def handle(self, *args: Any, **options: Any) -> None:
        running = holder(conf.var)
        if running:
            raise UserError(f"the system runs (pid {running['pid']}) at {running['url']}: stop it first")
        if not conf.var.exists():
            self.stdout.write("nothing to remove")
            return
        if cluster_of(conf, port=0).processes():
            raise UserError("a PostgreSQL server still runs on the data: try again in a moment")
        # Only what we make: MM_VAR may name a folder that holds other things too.
        for name in NAMES:
            path = conf.var / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if not any(conf.var.iterdir()):
            conf.var.rmdir()
        self.stdout.write(f"removed the data below {conf.var}")
