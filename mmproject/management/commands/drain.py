"""`manage.py drain`: move a node's symbols to the others."""

from __future__ import annotations

from mmproject.management.commands._draining import DrainingCommand


class Command(DrainingCommand):
    help = "Move a node's symbols to the other nodes, and let it take no new ones."
    epilog = 'example:\n  manage.py drain node-2 --wait --reason "kernel update"'
    draining = True
