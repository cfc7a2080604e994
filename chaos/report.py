"""The report of a run: one JSON document, and one HTML page that shows it as a picture and needs nothing else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from django.template.loader import render_to_string

from chaos.run import Bout
from chaos.watch import spread

FILES: Final = ("chaos.json", "chaos.html")
COLOURS: Final = 6
ROW: Final = 18  # pixels of the picture
LEFT: Final = 190
WIDTH: Final = 1100


def document(bouts: Sequence[Bout], left_out: Sequence[str] = (), *, to_come: int = 0) -> dict[str, Any]:
    """All bouts so far, and their sums: ok when all of them are, and no more are to come.

    `left_out` are the faults that were not asked for, or could not be had.
    """
    counts: Counter[str] = Counter()
    not_taken_over: Counter[str] = Counter()
    sometimes: Counter[str] = Counter()
    orders: Counter[str] = Counter()
    snapshots: Counter[str] = Counter()
    operations: Counter[str] = Counter()
    stream: Counter[str] = Counter()
    for bout in bouts:
        counts.update(bout.counts)
        not_taken_over.update(bout.not_taken_over)
        sometimes.update(bout.sometimes)
        operations.update(bout.history.get("operations", {}))
        stream.update(bout.stream)
        orders.update({name: value for name, value in bout.orders.items() if isinstance(value, int)})
        snapshots.update({name: value for name, value in bout.snapshots.items() if name != "longest_ms"})
    return {
        "ok": all(bout.ok for bout in bouts) and not to_come,
        "bouts_to_come": to_come,
        "minutes": round(sum(bout.seconds for bout in bouts) / 60, 2),
        "faults": dict(counts),
        "left_out": list(left_out),
        "sometimes": dict(sometimes),
        "orders": dict(orders),
        "snapshots": dict(snapshots),
        "operations": dict(operations),  # recorded, and checked as a history
        "stream": dict(stream),
        "violations": [one for bout in bouts for one in bout.violations],
        "excused": sum(len(bout.excused) for bout in bouts),
        "broken": [f"seed {bout.seed}: {text}" for bout in bouts for text in (*bout.broken, *bout.invalid)],
        "gaps_by_fault": _joined(bouts, "gap_seconds"),
        "takeovers_by_fault": _joined(bouts, "takeover_seconds"),
        "not_taken_over": dict(not_taken_over),
        "bouts": [bout.as_json() for bout in bouts],
    }


def _joined(bouts: Sequence[Bout], name: str) -> dict[str, Any]:
    """The bouts' seconds by fault, spread over all of them."""
    found: dict[str, list[float]] = {}
    for bout in bouts:
        for fault, values in getattr(bout, name).items():
            found.setdefault(fault, []).extend(values)
    return {fault: spread(values) for fault, values in found.items()}


def clear(folder: Path) -> None:
    """Take an earlier run's verdict out of the folder."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def write(found: dict[str, Any], folder: Path) -> None:
    """chaos.json and chaos.html in the folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    document, page = (folder / name for name in FILES)
    document.write_text(json.dumps(found, indent=1))
    pictures = [_picture(bout) for bout in found["bouts"]]
    shown = {**found, "pictures": pictures, "fault_rows": fault_rows(found)}
    page.write_text(render_to_string("chaos/report.html", shown))


def fault_rows(found: dict[str, Any]) -> list[list[Any]]:
    """Per fault: name, times, then of the gaps near it and of its takeovers how many, p50, p99 and max in ms.

    Last how many of the symbols that were its node's nobody else had quoted by then.
    """
    rows = []
    for name, count in found["faults"].items():
        row = [name, count]
        for kind in ("gaps_by_fault", "takeovers_by_fault"):
            one = found[kind].get(name, {})
            row += [one.get("count", 0), *(one.get(key, "") for key in ("p50_ms", "p99_ms", "max_ms"))]
        rows.append([*row, found["not_taken_over"].get(name, "")])
    return rows


def _picture(bout: dict[str, Any]) -> dict[str, Any]:
    """Bars of a bout: faults above, one row per symbol below, coloured by node, with the gaps on them. Pixels."""
    seconds = max(bout["minutes"] * 60, max((one["ended_s"] for one in bout["occasions"]), default=0.0))

    def x(at: float) -> float:
        return float(round(LEFT + min(max(at, 0.0), seconds) / seconds * WIDTH, 1))

    faults = sorted({one["fault"] for one in bout["occasions"]})
    symbols = sorted({one["symbol"] for one in bout["tenures"]})
    nodes = sorted({one["node"] for one in bout["tenures"] if not one["node"].startswith("churn")})
    colour = {node: number % COLOURS for number, node in enumerate(nodes)}
    rows = {name: 20 + ROW * number for number, name in enumerate([*faults, *symbols])}
    bars = [
        {
            "x": x(one["began_s"]), "y": rows[one["fault"]], "width": max(2.0, x(one["ended_s"]) - x(one["began_s"])),
            "kind": "failed" if one["error"] else "fault",
            "title": f"{one['fault']} {one['node'] or ''} {one['began_s']:.1f}-{one['ended_s']:.1f} s"
            f" {one['error'] or ''}",
        }
        for one in bout["occasions"]
    ]  # fmt: skip
    for one in bout["tenures"]:
        to_s = seconds if one["to_s"] is None else one["to_s"]
        bars.append(
            {
                "x": x(one["from_s"]), "y": rows[one["symbol"]], "width": max(0.5, x(to_s) - x(one["from_s"])),
                "kind": f"node{colour.get(one['node'], 'x')}",
                "title": f"{one['symbol']} {one['node']} epoch {one['epoch']}, {one['from_s']:.1f}-{to_s:.1f} s,"
                f" {one['reason'] or 'in force'}",
            }
        )  # fmt: skip
    gaps = [
        {
            "x": x(one["began_s"]), "y": rows[one["symbol"]], "kind": "gap",
            "width": max(1.0, x(one["began_s"] + one["seconds"]) - x(one["began_s"])),
            "title": f"{one['symbol']} not quoted for {one['seconds']:.2f} s from {one['began_s']:.1f} s",
        }
        for one in bout["gaps"] if one["symbol"] in rows and one["seconds"] > 0.05
    ]  # fmt: skip
    every = next(step for step in (10, 30, 60, 120, 300, 600) if seconds / step <= 12 or step == 600)
    ticks = [{"x": x(at), "text": f"{at} s"} for at in range(0, int(seconds) + 1, every)]
    return {
        "seed": bout["seed"], "ok": bout["ok"], "height": 30 + ROW * len(rows), "width": LEFT + WIDTH + 10,
        "rows": [{"name": name, "y": y + 12} for name, y in rows.items()], "bars": bars + gaps, "ticks": ticks,
        "legend": [{"node": node, "kind": f"node{number}"} for node, number in colour.items()],
        "broken": [*bout["broken"], *bout["invalid"]],
    }  # fmt: skip
