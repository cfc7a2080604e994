-- The first transaction id whose fills may be as late as a given time: every fill under it is earlier. Null when all fills are.
--
-- No index knows when fills were made, and each would be paid for by every fill. But they are made in nearly the order of their
-- transactions: a fill is stamped in its transaction, which takes its number before and lasts no longer than statement_timeout
-- lets it. So this halves the transaction ids, a look into fill_commit_order each time, and the caller asks for a time
-- earlier (or later) by more than a transaction can last. Rows are judged by their own time afterwards.
--
-- Locks: none. Parameter: at. At most 64 look-ups.
WITH RECURSIVE halved (low, high) AS (
    SELECT (SELECT xid::text::bigint FROM ledger_fill ORDER BY xid, activity_id LIMIT 1),
           (SELECT xid::text::bigint + 1 FROM ledger_fill ORDER BY xid DESC, activity_id DESC LIMIT 1)
    UNION ALL
    SELECT CASE WHEN f.filled_at < %(at)s THEN f.xid::text::bigint + 1 ELSE h.low END,
           CASE WHEN f.filled_at < %(at)s THEN h.high ELSE m.middle END
      FROM halved h
     CROSS JOIN LATERAL (SELECT h.low + (h.high - h.low) / 2 AS middle) m
     CROSS JOIN LATERAL (SELECT xid, filled_at FROM ledger_fill WHERE (xid, activity_id) >= (m.middle::text::xid8, 0)
                          ORDER BY xid, activity_id LIMIT 1) f
     WHERE h.low < h.high
)
SELECT h.low FROM halved h
 WHERE h.low >= h.high AND h.low <= (SELECT xid::text::bigint FROM ledger_fill ORDER BY xid DESC, activity_id DESC LIMIT 1)
