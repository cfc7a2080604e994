-- The first fill of a symbol that may be as late as a given time, by its sequence: every one under it is earlier. Null when all are.
-- A symbol's fills are made one after another and numbered without a gap, so this halves the numbers; see fills_since.sql.
--
-- Locks: none. Parameters: symbol, at. At most 64 look-ups.
WITH RECURSIVE halved (low, high) AS (
    SELECT 1::bigint, version + 1 FROM ledger_position WHERE symbol = %(symbol)s
    UNION ALL
    SELECT CASE WHEN f.filled_at < %(at)s THEN m.middle + 1 ELSE h.low END,
           CASE WHEN f.filled_at < %(at)s THEN h.high ELSE m.middle END
      FROM halved h
     CROSS JOIN LATERAL (SELECT h.low + (h.high - h.low) / 2 AS middle) m
     CROSS JOIN LATERAL (SELECT filled_at FROM ledger_fill
                          WHERE fill_id = %(symbol)s || '-' || lpad(m.middle::text, 12, '0') LIMIT 1) f
     WHERE h.low < h.high
)
SELECT h.low FROM halved h
 WHERE h.low >= h.high AND h.low <= (SELECT version FROM ledger_position WHERE symbol = %(symbol)s)
