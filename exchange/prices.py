"""Reference prices: a pure function of (seed, symbol, step), the same to the digit on any machine.

The path is value noise: octaves of lattice points one period apart, joined by straight lines, each octave
twice as slow as the one before and sqrt(2) times as large. Up to the slowest period (4.5 hours at one step
per second) its changes grow with the square root of time, as a random walk's do; beyond that it is bounded,
so a market left running for weeks stays in the neighbourhood of its seed price. Any step is computed
directly, with no state to keep or lose (random access), and step 0 is the seed price itself. Only integers
and BLAKE2b: no floats, no `random`, no `hash()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from math import isqrt
from typing import Final

from exchange.grid import on_grid

OCTAVES: Final = 15  # periods of 1, 2, 4 ... 16384 steps
# A path per symbol and seed; one takes about 3 kB. Twice the largest market, so that a second seed (simulate)
# fits too.
PATHS_MAX: Final = 20_000

_LATTICE_HALF: Final = 1 << 31  # a lattice value is uniform in [-2^31, 2^31)
_WEIGHTS: Final = tuple(isqrt(4**OCTAVES << octave) for octave in range(OCTAVES))  # ~ sqrt(period)
_ONE: Final = 10**12  # a deviation of _ONE is a price that doubled
# One basis point is _ONE / 10^4. The last factor was measured: it makes the standard deviation of the change
# over one hour (3,600 steps), averaged over many symbols, one basis point (to 5 %) per `volatility_bps`.
_BPS_OVER: Final = _ONE // 10**4
_BPS_UNDER: Final = _LATTICE_HALF * _WEIGHTS[0] * 66

_Segment = tuple[int, int, int]  # lattice index, value there, value at the next index


@dataclass(slots=True)
class _Path:
    """What is known of one symbol's path: constants, and the segment of each octave that was used last.

    Threads may share it: a segment is one tuple that is replaced whole, and each is a pure function of its
    index.
    """

    prefix: str
    phases: tuple[int, ...]
    segments: list[_Segment | None]
    origin: int = 0


_paths: dict[tuple[int, str], _Path] = {}


def reference_price(
    seed: int, symbol: str, seed_price: Decimal, tick_size: Decimal, volatility_bps: int, step: int
) -> Decimal:
    """The reference price at a step: on tick and at least one tick.

    `volatility_bps` is the standard deviation of the price's change over 3,600 steps, in basis points of the
    seed price.
    """
    assert step >= 0, f"steps start at 0, not {step}"
    path = _paths.get((seed, symbol)) or _new_path(seed, symbol)
    deviation = (_noise(path, step) - path.origin) * volatility_bps * _BPS_OVER // _BPS_UNDER
    # (1 + x) upwards, 1 / (1 - x) downwards: halving is as likely as doubling and no fall reaches zero.
    over, under = (_ONE + deviation, _ONE) if deviation >= 0 else (_ONE, _ONE - deviation)
    price_over, price_under = seed_price.as_integer_ratio()
    tick_over, tick_under = tick_size.as_integer_ratio()
    numerator = over * price_over * tick_under
    denominator = under * price_under * tick_over
    ticks = (2 * numerator + denominator) // (2 * denominator)  # to the nearest tick
    return on_grid(max(ticks, 1), tick_size)


def _new_path(seed: int, symbol: str) -> _Path:
    if len(_paths) >= PATHS_MAX:
        _paths.clear()  # a cache only: everything in it can be computed again
    prefix = f"{seed}/{symbol}/"
    # A phase of its own per octave: else every octave of every symbol would turn at the same steps.
    phases = tuple(
        int.from_bytes(blake2b(f"{prefix}phase/{octave}".encode(), digest_size=4, person=b"mm-price").digest(), "big")
        & ((1 << octave) - 1)
        for octave in range(OCTAVES)
    )
    path = _Path(prefix, phases, [None] * OCTAVES)
    path.origin = _noise(path, 0)
    _paths[seed, symbol] = path
    return path


def _noise(path: _Path, step: int) -> int:
    """The weighted sum of all octaves at a step."""
    total = 0
    segments = path.segments
    for octave, (phase, weight) in enumerate(zip(path.phases, _WEIGHTS, strict=True)):
        position = step + phase
        index = position >> octave
        segment = segments[octave]
        if segment is None or segment[0] != index:
            left = (
                segment[2] if segment is not None and segment[0] + 1 == index else _lattice(path.prefix, octave, index)
            )
            segment = (index, left, _lattice(path.prefix, octave, index + 1))
            segments[octave] = segment
        _, left, right = segment
        total += weight * (left + ((right - left) * (position - (index << octave)) >> octave))
    return total


def _lattice(prefix: str, octave: int, index: int) -> int:
    """A uniform integer in [-2^31, 2^31) that belongs to one lattice point for ever."""
    digest = blake2b(f"{prefix}{octave}/{index}".encode(), digest_size=4, person=b"mm-price").digest()
    return int.from_bytes(digest, "big") - _LATTICE_HALF
