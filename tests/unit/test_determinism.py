"""The pure logic gives the same bytes in any process: other hash seed, other locale, other order of calls."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# One digest over catalogue, prices, orders, quotes and an assignment.
SCRIPT = """
from decimal import Decimal
from hashlib import blake2b
from authority.assignment import assign
from exchange.catalogue import catalogue
from exchange.orderflow import external_orders
from exchange.prices import reference_price
from nodeagent.quoting import QuotingParameters, quote

digest = blake2b(digest_size=16)
specs = catalogue(40)
for spec in specs:
    digest.update(repr(spec.as_json()).encode())
    parameters = QuotingParameters(spec.tick_size, spec.lot_size, spec.half_spread_ticks, spec.skew_ticks,
                                   spec.quote_size, spec.position_limit)
    for step in (0, 1, 2, 59, 60, 3601, 86_400, 10_000_019):
        price = reference_price(11, spec.name, spec.seed_price, spec.tick_size, spec.volatility_bps, step)
        digest.update(f"{price} {quote(price, spec.position_limit / 3, parameters)}".encode())
        for entry in external_orders(11, spec, step):
            digest.update(repr(entry.as_json()).encode())
nodes = {"node-1", "node-2", "node-3"}
first = assign({spec.name for spec in specs}, nodes, {})
digest.update(repr(assign({spec.name for spec in specs}, nodes | {"node-4"}, first)).encode())
print(digest.hexdigest())
"""


@pytest.mark.parametrize("hash_seed", ["0", "1", "4711"])
def test_another_hash_seed_gives_the_same_market(hash_seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT), "TZ": "Asia/Tokyo"}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ran.stderr, ran.stdout.strip()) == ("", "b0bc2a852b54ec578d002a4ed67e26db")


PURE_MODULES = (
    "exchange/grid.py",
    "exchange/catalogue.py",
    "exchange/prices.py",
    "exchange/orderflow.py",
    "nodeagent/quoting.py",
    "authority/assignment.py",
)


@pytest.mark.parametrize("module", PURE_MODULES)
def test_pure_logic_knows_no_framework_no_clock_no_chance_and_no_floats(module: str) -> None:
    tree = ast.parse((ROOT / module).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in imported} & {"django", "random", "time", "datetime", "os", "math"} - {
        "math" if module == "exchange/prices.py" else ""  # for isqrt, which is exact
    }
    assert not {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & {"float", "hash", "id"}
    assert not any(isinstance(node, ast.Constant) and isinstance(node.value, float) for node in ast.walk(tree))
