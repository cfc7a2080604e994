-- The newest activity below the horizon, newest first. Locks: none. $1 how many at most.
SELECT xid::text::bigint AS xid, id, at, kind, symbol, node, data::text AS data
  FROM ledger_activity
 WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
 ORDER BY ledger_activity.xid DESC, ledger_activity.id DESC LIMIT $1
