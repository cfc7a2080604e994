-- One page of the blotter's orders, newest first, as exact text; in the same snapshot the time and the newest order's number,
-- so that a page can ask for what came since. At least one row: `id` is null in it when there is nothing to show.
--
-- At most `scan` orders are looked at, however few of them are wanted: the last one looked at is a row too, with `is_wanted`
-- false if it is none, so that the next page begins behind it. The range, put in by console/listing.py, names them by number.
--
-- Locks: none. Parameters: symbol, side, statuses, since, until, and prefix of the id, the filter, each null for any; limit, the
-- most rows; scan, the most orders looked at; fills, the last of an order's own fills that is wanted, counted from 0, and null
-- for none of them; and those of the range.
WITH scanned AS (
    SELECT o.id, o.client_order_id, o.symbol, o.side, o.type, o.time_in_force, o.price, o.quantity, o.status,
           o.filled_quantity, o.filled_notional, o.reject_code, o.fills, o.created_at, o.updated_at, o.tick_size, o.lot_size,
           row_number() OVER (ORDER BY o.id DESC) AS place
      FROM exchange_order o WHERE {range} ORDER BY o.id DESC LIMIT %(scan)s
), judged AS (
    SELECT o.*, (%(symbol)s::text IS NULL OR o.symbol = %(symbol)s) AND (%(side)s::text IS NULL OR o.side = %(side)s)
                AND (%(statuses)s::text[] IS NULL OR o.status = ANY (%(statuses)s::text[]))
                AND (%(since)s::timestamptz IS NULL OR o.created_at >= %(since)s)
                AND (%(until)s::timestamptz IS NULL OR o.created_at < %(until)s)
                AND (%(prefix)s::text IS NULL OR starts_with(o.client_order_id, %(prefix)s)) AS is_wanted
      FROM scanned o
), page AS (
    SELECT * FROM judged o WHERE is_wanted OR place = %(scan)s ORDER BY o.id DESC LIMIT %(limit)s
)
SELECT to_char(now.at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS as_of, now.known, o.place, o.is_wanted, o.id, o.client_order_id,
       to_char(o.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created_at,
       to_char(o.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at,
       o.symbol, o.side, o.type, o.time_in_force, trim_scale(o.price)::text AS price, trim_scale(o.quantity)::text AS quantity,
       trim_scale(o.filled_quantity)::text AS filled_quantity,
       trim_scale(o.quantity - o.filled_quantity)::text AS remaining_quantity,
       CASE WHEN o.filled_quantity > 0
            THEN trim_scale(round(o.filled_notional / o.filled_quantity, 10))::text END AS average_price, o.status, o.reject_code,
       CASE WHEN %(fills)s::integer IS NOT NULL
            THEN jsonb_path_query_array(o.fills, '$[0 to $last]', jsonb_build_object('last', %(fills)s::integer))::text END AS fills,
       CASE WHEN %(fills)s::integer IS NOT NULL THEN jsonb_array_length(o.fills) END AS fill_count,
       scale(trim_scale(o.tick_size)) AS price_decimals, scale(trim_scale(o.lot_size)) AS size_decimals
  FROM (SELECT clock_timestamp() AT TIME ZONE 'UTC' AS at, (SELECT coalesce(max(id), 0)::text FROM exchange_order) AS known) now
  LEFT JOIN page o ON true
 ORDER BY o.place
