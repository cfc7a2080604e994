-- How many orders came after a number that the filter wants, and whether all that came were looked at.
-- Locks: none. Parameters: after; the filter as in orders.sql; scan, the most orders looked at.
SELECT count(*) FILTER (WHERE is_wanted) AS newer, count(*) < %(scan)s AS is_all
  FROM (SELECT (%(symbol)s::text IS NULL OR o.symbol = %(symbol)s) AND (%(side)s::text IS NULL OR o.side = %(side)s)
               AND (%(statuses)s::text[] IS NULL OR o.status = ANY (%(statuses)s::text[]))
               AND (%(since)s::timestamptz IS NULL OR o.created_at >= %(since)s)
               AND (%(until)s::timestamptz IS NULL OR o.created_at < %(until)s)
               AND (%(prefix)s::text IS NULL OR starts_with(o.client_order_id, %(prefix)s)) AS is_wanted
          FROM (SELECT * FROM exchange_order WHERE id > %(after)s ORDER BY id LIMIT %(scan)s) o) judged
