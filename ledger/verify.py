"""The ledger's side of `verify`: positions are what their fills add up to, and each fill counted once."""

# ruff: noqa: S608 - queries are put together from constants of this project only
from __future__ import annotations

from mmproject.invariants import Check, triggers_on, unique_on

FILLS = "SELECT count(*) FROM ledger_fill"

# Id of the fill that a position `p` says was its last.
LAST_FILL = "p.symbol || '-' || lpad(p.version::text, 12, '0')"

_SIGNED = "CASE side WHEN 'buy' THEN quantity ELSE -quantity END"

# The position after each fill, computed again from the one before it by the ledger's own rule (ledger_record_fill_v2).
_CHAIN = f"""
    SELECT fill_id, quantity_after, quantity_before + signed AS quantity_expected,
           cash_after, cash_before - signed * price AS cash_expected, cost_after,
           CASE WHEN quantity_before * signed >= 0 THEN cost_before + signed * price
                WHEN abs(quantity_before) <= abs(signed) THEN (signed + quantity_before) * price
                ELSE cost_before - round(cost_before * abs(signed) / abs(quantity_before), 10)
           END AS cost_expected
      FROM (SELECT fill_id, price, quantity_after, cash_after, cost_after, {_SIGNED} AS signed,
                   coalesce(lag(quantity_after) OVER w, 0) AS quantity_before,
                   coalesce(lag(cash_after) OVER w, 0) AS cash_before,
                   coalesce(lag(cost_after) OVER w, 0) AS cost_before
              FROM ledger_fill WINDOW w AS (PARTITION BY symbol ORDER BY sequence)) AS chained"""

CHECKS = (
    Check(
        "I6",
        "a position is the sum of its symbol's fills",
        f"""
        SELECT coalesce(p.symbol, f.symbol) AS symbol, p.quantity, f.quantity AS fills_quantity, p.cash,
               f.cash AS fills_cash, p.cost
          FROM ledger_position p
          FULL JOIN (SELECT symbol, sum({_SIGNED}) AS quantity, -sum({_SIGNED} * price) AS cash
                       FROM ledger_fill GROUP BY symbol) AS f ON f.symbol = p.symbol
         WHERE p.symbol IS NULL OR p.quantity <> coalesce(f.quantity, 0) OR p.cash <> coalesce(f.cash, 0)
            OR sign(p.quantity) <> sign(p.cost)""",
        checked="SELECT count(*) FROM ledger_position",
    ),
    Check(
        "I6",
        "each fill left the position that the fill before it and its own terms make",
        f"""
        SELECT * FROM ({_CHAIN}) AS c
         WHERE quantity_after <> quantity_expected OR cash_after <> cash_expected OR cost_after <> cost_expected""",
        checked=FILLS,
    ),
    Check(
        "I6",
        "a position is as its last fill left it",
        f"""
        SELECT p.symbol, f.fill_id, p.quantity, f.quantity_after, p.cost, f.cost_after, p.cash, f.cash_after
          FROM ledger_position p LEFT JOIN ledger_fill f ON f.fill_id = {LAST_FILL}
         WHERE (p.quantity, p.cost, p.cash)
               IS DISTINCT FROM
               (coalesce(f.quantity_after, 0), coalesce(f.cost_after, 0), coalesce(f.cash_after, 0))""",
    ),
    Check(
        "I7",
        "a fill id belongs to one fill, and is its symbol and sequence",
        """
        SELECT fill_id, count(*) AS fills FROM ledger_fill GROUP BY fill_id
        HAVING count(*) > 1 OR bool_or(fill_id <> symbol || '-' || lpad(sequence::text, 12, '0'))""",
        checked=FILLS,
    ),
    # Their ids being unique (above), as many as the last one's number means that none is missing.
    Check(
        "I7",
        "fills count 1, 2, 3 ... up to their position's version",
        """
        SELECT coalesce(p.symbol, f.symbol) AS symbol, p.version, f.fills, f.first, f.last
          FROM ledger_position p
          FULL JOIN (SELECT symbol, count(*) AS fills, min(sequence) AS first, max(sequence) AS last
                       FROM ledger_fill GROUP BY symbol) AS f ON f.symbol = p.symbol
         WHERE p.version IS DISTINCT FROM coalesce(f.fills, 0) OR f.first <> 1 OR f.last <> f.fills""",
    ),
    Check("I7", "the database refuses a second fill under an id", unique_on("ledger_fill", "fill_id")),
    Check(
        "I7",
        "the database refuses to change a fill",
        triggers_on("ledger_fill", "append_only_row", "append_only_table"),
    ),
)
