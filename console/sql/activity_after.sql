-- Activity from a position on, in the order of commits: the row at that position itself, if it is there, and what
-- follows. Only below the horizon: every transaction under it has ended, so that nothing can appear before what was read.
--
-- Ordered by the view's own columns: the output's xid is another expression, and no index knows its order.
-- Locks: none. $1 xid, $2 id, $3 how many at most.
SELECT xid::text::bigint AS xid, id, at, kind, symbol, node, data::text AS data
  FROM ledger_activity
 WHERE (xid, id) >= ($1::text::xid8, $2::bigint) AND xid < pg_snapshot_xmin(pg_current_snapshot())
 ORDER BY ledger_activity.xid, ledger_activity.id LIMIT $3
