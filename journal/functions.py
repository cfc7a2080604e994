"""The journal's SQL functions that the tables' columns use."""

from __future__ import annotations

from django.db.models import BigIntegerField, Func


class NextActivityId(Func):
    """The next number of the activity's own sequence, for what is told in a table of its own."""

    template = "nextval('journal_activity_id_seq')"
    output_field = BigIntegerField()
