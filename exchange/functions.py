"""The exchange's SQL functions that the tables' columns use."""

from __future__ import annotations

from django.db.models import BigIntegerField, Func


class ClockStep(Func):
    """`exchange_clock_step_v1()`: the step that the exchange's clock shows."""

    function = "exchange_clock_step_v1"
    output_field = BigIntegerField()
