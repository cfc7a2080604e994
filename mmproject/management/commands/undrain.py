"""`manage.py undrain`: let a drained node take symbols again."""

from __future__ import annotations

from mmproject.management.commands._draining import DrainingCommand


class Command(DrainingCommand):
    help = "Let a drained node take symbols again."
    epilog = "example:\n  manage.py undrain node-2 --wait"
    draining = False
