-- One page of the blotter's fills, newest first, as exact text; in the same snapshot the time and the market's count of fills
-- (of one symbol when the filter names it), so that a page can say how many came since. At least one row: `fill_id` is null in it
-- when there is nothing to show.
--
-- At most `scan` fills are looked at, however few of them are wanted: the last one looked at is a row too, with `is_wanted`
-- false if it is none, so that the next page begins behind it. The range and the order, put in by console/listing.py, follow an
-- index. What a fill realised is what cash + cost moved by since the symbol's fill before it.
--
-- Locks: none. Parameters: symbol, side, since, until, and prefix of the order's id, the filter, each null for any; limit, the
-- most rows; scan, the most fills looked at; and those of the range.
WITH scanned AS (
    SELECT f.fill_id, f.xid, f.activity_id, f.symbol, f.sequence, f.side, f.price, f.quantity, f.client_order_id,
           f.quote_version, f.epoch, f.node, f.filled_at, f.tick_size, f.lot_size, f.quantity_after, f.cost_after, f.cash_after,
           row_number() OVER (ORDER BY {order}) AS place
      FROM ledger_fill f WHERE {range} ORDER BY {order} LIMIT %(scan)s
), judged AS (
    SELECT f.*, (%(symbol)s::text IS NULL OR f.symbol = %(symbol)s) AND (%(side)s::text IS NULL OR f.side = %(side)s)
                AND (%(since)s::timestamptz IS NULL OR f.filled_at >= %(since)s)
                AND (%(until)s::timestamptz IS NULL OR f.filled_at < %(until)s)
                AND (%(prefix)s::text IS NULL OR starts_with(f.client_order_id, %(prefix)s)) AS is_wanted
      FROM scanned f
), page AS (
    SELECT * FROM judged f WHERE is_wanted OR place = %(scan)s ORDER BY {order} LIMIT %(limit)s
)
SELECT to_char(now.at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS as_of, now.known, f.place, f.is_wanted, f.fill_id,
       to_char(f.filled_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS filled_at, f.symbol, f.side,
       trim_scale(f.price)::text AS price, trim_scale(f.quantity)::text AS quantity, f.client_order_id,
       trim_scale(f.quantity_after)::text AS position_after,
       trim_scale(coalesce(round(f.cost_after / nullif(f.quantity_after, 0), 10), 0))::text AS average_cost_after,
       trim_scale(f.cash_after + f.cost_after - coalesce(b.cash_after + b.cost_after, 0))::text AS realised_pnl,
       trim_scale(f.cash_after + f.cost_after)::text AS realised_pnl_after,
       f.node, f.epoch::text AS epoch, f.quote_version::text AS quote_version,
       scale(trim_scale(f.tick_size)) AS price_decimals, scale(trim_scale(f.lot_size)) AS size_decimals
  FROM (SELECT clock_timestamp() AT TIME ZONE 'UTC' AS at,
               (SELECT coalesce(sum(version), 0)::text FROM ledger_position
                 WHERE %(symbol)s::text IS NULL OR symbol = %(symbol)s) AS known) now
  LEFT JOIN page f ON true
  -- LIMIT keeps this one look-up by key for each row: a page must never become a scan of the table.
  LEFT JOIN LATERAL (SELECT p.cash_after, p.cost_after FROM ledger_fill p
                      WHERE p.fill_id = f.symbol || '-' || lpad((f.sequence - 1)::text, 12, '0') LIMIT 1) b ON true
 ORDER BY f.place
