-- A symbol's last while in a bounded number of points: its quotes, its fills, and what its steps can be dated by. One snapshot,
-- one row of JSON text; none when there is no such symbol.
--
-- Versions and fills are numbered without gaps, so nothing is read through: the first ones of the while are found by halving,
-- and then every so many-th is looked up by its number, at multiples of the stride, so that the picture stands still while it
-- grows. Added to them are what was in force when the while began, the newest, and the quotes around each withdrawal. A step
-- of the past is dated by the first order that it brought, here or in one of the busiest symbols.
--
-- Locks: none. `symbol`; `seconds` how long a while; `points` of each series at most, the additions aside;
-- `withdrawals`; `anchors` dated steps at most, looked for in `busiest` symbols. Times are milliseconds since 1970.
WITH RECURSIVE asked AS MATERIALIZED (
    SELECT s.*, scale(trim_scale(s.tick_size)) AS price_decimals, scale(trim_scale(s.lot_size)) AS size_decimals,
           c.seed, c.tick_ms, m.step, m.price, m.at, q.version AS last_quote, p.version AS last_fill,
           least(coalesce(r.version, 0), q.version) AS dropped_quotes, r.dropped_before, clock_timestamp() AS now,
           statement_timestamp() - %(seconds)s * interval '1 second' AS since
      FROM exchange_symbol s
      JOIN exchange_quote q ON q.symbol = s.name
      JOIN exchange_price m ON m.symbol = s.name
      JOIN ledger_position p ON p.symbol = s.name
      JOIN exchange_clock c ON true
      LEFT JOIN exchange_retention r ON r.symbol = s.name
     WHERE s.name = %(symbol)s
), quote_search (low, high) AS (
    SELECT dropped_quotes + 1, last_quote + 1 FROM asked
    UNION ALL
    SELECT CASE WHEN found.inside THEN s.low ELSE (s.low + s.high) / 2 + 1 END,
           CASE WHEN found.inside THEN (s.low + s.high) / 2 ELSE s.high END
      FROM quote_search s
     CROSS JOIN LATERAL (
           SELECT EXISTS (SELECT FROM exchange_quoteversion v
                           WHERE v.symbol = %(symbol)s AND v.version = (s.low + s.high) / 2
                             AND v.published_at >= statement_timestamp() - %(seconds)s * interval '1 second') AS inside
           ) found
     WHERE s.low < s.high
), quote_range AS MATERIALIZED (
    SELECT s.low AS first, a.last_quote AS last,
           greatest(1, (a.last_quote - s.low + %(points)s) / %(points)s) AS stride
      FROM quote_search s, asked a WHERE s.low = s.high
), withdrawal AS MATERIALIZED (
    SELECT v.version FROM exchange_quoteversion v, quote_range r
     WHERE v.symbol = %(symbol)s AND v.withdrawn_reason IS NOT NULL AND v.version >= r.first
       AND v.published_at >= statement_timestamp() - %(seconds)s * interval '1 second'
     ORDER BY v.version DESC LIMIT %(withdrawals)s
), quotes AS (
    SELECT v.* FROM exchange_quoteversion v
     WHERE v.symbol = %(symbol)s AND v.version = ANY (ARRAY(
           SELECT generate_series((first + stride - 1) / stride * stride, last, stride) FROM quote_range
           UNION SELECT first - 1 FROM quote_range
           UNION SELECT last FROM quote_range
           UNION SELECT w.version + beside.number FROM withdrawal w, (VALUES (-1), (0), (1)) beside (number)))
), fill_search (low, high) AS (
    SELECT 1::bigint, last_fill + 1 FROM asked
    UNION ALL
    SELECT CASE WHEN found.inside THEN s.low ELSE (s.low + s.high) / 2 + 1 END,
           CASE WHEN found.inside THEN (s.low + s.high) / 2 ELSE s.high END
      FROM fill_search s
     CROSS JOIN LATERAL (
           SELECT EXISTS (SELECT FROM ledger_fill f
                           WHERE f.fill_id = %(symbol)s || '-' || lpad(((s.low + s.high) / 2)::text, 12, '0')
                             AND f.filled_at >= statement_timestamp() - %(seconds)s * interval '1 second') AS inside
           ) found
     WHERE s.low < s.high
), fill_range AS MATERIALIZED (
    SELECT s.low AS first, a.last_fill AS last, greatest(1, (a.last_fill - s.low + %(points)s) / %(points)s) AS stride
      FROM fill_search s, asked a WHERE s.low = s.high
), fills AS (
    SELECT f.* FROM ledger_fill f
     WHERE f.fill_id = ANY (ARRAY(
           SELECT %(symbol)s || '-' || lpad(picked.number::text, 12, '0')
             FROM (SELECT generate_series((first + stride - 1) / stride * stride, last, stride) FROM fill_range
                   UNION SELECT first - 1 FROM fill_range
                   UNION SELECT last FROM fill_range) picked (number)))
), dated AS (
    SELECT o.step, min(o.created_at) AS at FROM exchange_order o
     WHERE o.client_order_id = ANY (ARRAY(
           SELECT 'ext-' || busy.name || '-' || lpad(steps.step::text, 9, '0') || '-0'
             FROM (SELECT %(symbol)s::text AS name
                   UNION (SELECT name FROM exchange_symbol ORDER BY orders_per_step DESC, name LIMIT %(busiest)s)) busy
            CROSS JOIN (SELECT generate_series((reach.lowest + reach.stride - 1) / reach.stride * reach.stride,
                                               reach.step, reach.stride) AS step
                          FROM (SELECT step, lowest, greatest(1, (step - lowest + %(anchors)s) / %(anchors)s) AS stride
                                  FROM (SELECT step, greatest(0, step - %(seconds)s * 1000 / greatest(tick_ms, 1) - 1) AS lowest
                                          FROM asked) span) reach) steps))
     GROUP BY o.step
)
SELECT json_build_object(
           'now', (extract(epoch FROM a.now) * 1000)::bigint, 'since', (extract(epoch FROM a.since) * 1000)::bigint,
           'seed', a.seed, 'seed_price', a.seed_price::text, 'tick_size', a.tick_size::text,
           'volatility_bps', a.volatility_bps, 'added_step', a.added_step, 'tick_ms', a.tick_ms, 'step', a.step,
           'price', round(a.price, a.price_decimals)::text, 'step_at', (extract(epoch FROM a.at) * 1000)::bigint,
           'price_decimals', a.price_decimals,
           'quotes_kept_from', CASE WHEN a.dropped_before > a.since
                                    THEN (extract(epoch FROM a.dropped_before) * 1000)::bigint END,
           'quote_stride', q.stride, 'quotes_in_all', q.last - q.first + 1,
           'fill_stride', f.stride, 'fills_in_all', f.last - f.first + 1, 'first_fill', f.first,
           'steps', (SELECT coalesce(json_agg(json_build_array(step, (extract(epoch FROM at) * 1000)::bigint)
                                              ORDER BY step), '[]') FROM dated),
           'quotes', (SELECT coalesce(json_agg(json_build_array(
                                 (extract(epoch FROM v.published_at) * 1000)::bigint,
                                 round(v.bid_price, a.price_decimals)::text, round(v.ask_price, a.price_decimals)::text,
                                 (extract(epoch FROM v.valid_until) * 1000)::bigint) ORDER BY v.version), '[]')
                        FROM quotes v),
           'fills', (SELECT coalesce(json_agg(json_build_array(
                                (extract(epoch FROM v.filled_at) * 1000)::bigint, v.sequence, v.side,
                                round(v.price, a.price_decimals)::text, round(v.quantity, a.size_decimals)::text,
                                round(v.quantity_after, a.size_decimals)::text, v.cash_after::text, v.cost_after::text)
                                ORDER BY v.sequence), '[]')
                       FROM fills v)
       )::text
  FROM asked a, quote_range q, fill_range f
