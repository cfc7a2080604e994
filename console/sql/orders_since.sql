-- The first order, by its number, that may be as late as a given time: every one under it is earlier. Null when all orders are.
-- Orders are made in nearly the order of their numbers, which have gaps: this halves them; see fills_since.sql.
--
-- Locks: none. Parameter: at. At most 64 look-ups.
WITH RECURSIVE halved (low, high) AS (
    SELECT (SELECT min(id) FROM exchange_order), (SELECT max(id) + 1 FROM exchange_order)
    UNION ALL
    SELECT CASE WHEN o.created_at < %(at)s THEN o.id + 1 ELSE h.low END,
           CASE WHEN o.created_at < %(at)s THEN h.high ELSE m.middle END
      FROM halved h
     CROSS JOIN LATERAL (SELECT h.low + (h.high - h.low) / 2 AS middle) m
     CROSS JOIN LATERAL (SELECT id, created_at FROM exchange_order WHERE id >= m.middle ORDER BY id LIMIT 1) o
     WHERE h.low < h.high
)
SELECT h.low FROM halved h WHERE h.low >= h.high AND h.low <= (SELECT max(id) FROM exchange_order)
