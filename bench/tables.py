"""What was measured, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.figures import Measurement, Spread, rounded
from bench.run import Machine, Outcome


def number(value: float) -> str:
    return f"{rounded(value):,}"


def spread_text(spread: Spread) -> str:
    """Median, and from the lowest to the highest where there was more than one."""
    if spread.lowest == spread.highest:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.lowest)}..{number(spread.highest)})"


def ratio_text(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.lowest:.2f}..{spread.highest:.2f})"


def verdict_text(measurement: Measurement) -> str:
    if measurement.goal is None:
        return ""
    return f"{measurement.goal.text}: {'met' if measurement.met else 'not met'}"


def one_line_of(measurement: Measurement) -> str:
    """A measurement on one line, for the progress."""
    text = f"{measurement.name}: {spread_text(measurement.figure)} {measurement.unit}"
    for floor in measurement.floors:
        text += f"; {ratio_text(measurement.ratio(floor))} x {floor.name}"
    verdict = verdict_text(measurement)
    return f"{text}; goal {verdict}" if verdict else text


def show(machine: Machine, outcomes: Sequence[Outcome], console: Console) -> None:
    """Where it was measured, then a table for each benchmark and what `verify` said."""
    _show_machine(machine, console)
    for outcome in outcomes:
        console.print()
        console.print(f"[bold]{outcome.name}[/]  {escape(outcome.what)}")
        if outcome.measurements:
            console.print(_table(outcome.measurements))
        for measurement in outcome.measurements:
            if measurement.detail:
                shown = ", ".join(f"{key} {value}" for key, value in measurement.detail.items())
                console.print(f"[dim]{escape(measurement.name)}: {escape(shown)}[/]")
        for note in outcome.notes:
            console.print(f"[dim]{escape(note)}[/]")
        _show_end(outcome, console)
    goals = [one.met for outcome in outcomes for one in outcome.measurements if one.goal]
    console.print(f"\nGoals: {goals.count(True)} met, {goals.count(False)} not met")


def _show_machine(machine: Machine, console: Console) -> None:
    settings = dict(machine.settings)
    version = settings.pop("server_version")
    where = f"embedded, data on {machine.filesystem or '?'}" if machine.embedded else "DATABASE_URL"
    load = " ".join(f"{value:.2f}" for value in machine.load_average)
    console.print(f"PostgreSQL {version} ({where}), {machine.cores} cores, load average {load} at the start")
    console.print("[dim]" + ", ".join(f"{name} = {value}" for name, value in settings.items()) + "[/]")


def _table(measurements: Sequence[Measurement]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "median (lowest..highest)", "", "floor", "", "ratio", "goal"):
        table.add_column(heading, justify="left" if heading in ("", "goal") else "right", no_wrap=True)
    for one in measurements:
        verdict = verdict_text(one)
        colour = "" if one.met is None else "[green]" if one.met else "[bold red]"
        row = [escape(one.name), spread_text(one.figure), one.unit]
        if not one.floors:
            table.add_row(*row, "", "", "", f"{colour}{verdict}")
        for index, floor in enumerate(one.floors):
            beside = [spread_text(Spread.of(floor.values)), escape(floor.name), ratio_text(one.ratio(floor))]
            table.add_row(*(row if index == 0 else ["", "", ""]), *beside, f"{colour}{verdict}" if index == 0 else "")
    return table


def _show_end(outcome: Outcome, console: Console) -> None:
    if outcome.error:
        console.print(f"[bold red]failed[/]: {escape(outcome.error)}")
    for report in outcome.verified:
        checked = sum(verdict.checked for verdict in report.verdicts)
        if report.ok:
            console.print(f"[green]verified[/]: all {len(report.verdicts)} invariants hold, {checked:,} rows looked at")
        else:
            console.print(f"[bold red]verify: broken: {', '.join(report.broken)}[/]")
