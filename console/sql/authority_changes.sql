-- What has changed since authority_history.sql, or this, was read last: the same JSON text, with only what is new or different.
--
-- Locks: none. after: the `horizon` of the last answer; entries, refusals: how many of the journal's entries are read, and how many
-- refusals told, at most. Every grant, release and end of a lease has its entry in the journal, written in its own transaction. So the
-- entries from the horizon on name each symbol whose tenures can have changed since, and how many it was granted: its newest tenures,
-- that many and the one before, are all that can be different. Nothing here depends on a clock. What was told may be told again.
-- Null when there are more entries than are read, or the horizon is none of this database's: then read all anew.
WITH asked AS MATERIALIZED (
    SELECT statement_timestamp() AS now, pg_current_snapshot() AS snapshot
), told AS MATERIALIZED (
    SELECT at, kind, symbol, data FROM journal_activity
     WHERE xid >= %(after)s::xid8 ORDER BY xid, id LIMIT %(entries)s
), changed AS (
    SELECT symbol, count(*) FILTER (WHERE kind = 'granted') AS grants
      FROM (SELECT symbol, kind FROM told WHERE kind IN ('granted', 'released')
            UNION ALL
            SELECT s.symbol, kind FROM told CROSS JOIN LATERAL jsonb_array_elements_text(data -> 'symbols') AS s (symbol)
             WHERE kind = 'ended') c
     GROUP BY symbol
), refused AS (
    SELECT r.*
      FROM (SELECT symbol, min(at) AS at FROM told WHERE kind = 'refused' GROUP BY symbol) t
     CROSS JOIN LATERAL (SELECT * FROM authority_refusal r
                          WHERE r.symbol = t.symbol AND r.at >= t.at - interval '5 seconds'
                          ORDER BY r.at DESC LIMIT %(refusals)s) r
     ORDER BY r.id DESC LIMIT %(refusals)s
)
SELECT CASE WHEN (SELECT count(*) FROM told) < %(entries)s AND %(after)s::xid8 <= pg_snapshot_xmax(a.snapshot) THEN
       json_build_object(
           'complete', false, 'now', a.now, 'horizon', pg_snapshot_xmin(a.snapshot)::text,
           'tenures', (SELECT coalesce(json_agg(json_build_array(
                                  t.symbol, t.epoch, t.node, round(date_part('epoch', t.granted_at) * 1000)::bigint,
                                  round(date_part('epoch', t.ended_at) * 1000)::bigint, t.reason)), '[]')
                         FROM changed c
                        CROSS JOIN LATERAL (SELECT * FROM authority_tenure t WHERE t.symbol = c.symbol
                                             ORDER BY t.epoch DESC LIMIT c.grants + 1) t),
           'lives', (SELECT coalesce(json_agg(json_build_object(
                                'id', i.id, 'serial', i.serial, 'node', i.node, 'registered_at', i.registered_at,
                                'ended_at', i.ended_at, 'end_reason', i.end_reason) ORDER BY i.serial), '[]')
                       FROM authority_incarnation i
                      WHERE i.id IN (SELECT (data ->> 'incarnation')::uuid FROM told WHERE kind IN ('registered', 'ended'))),
           'generations', (SELECT coalesce(json_agg(json_build_object(
                                      'generation', g.generation, 'at', g.at, 'by', g.applied_by, 'members', g.members,
                                      'moves', g.moves, 'cause', g.cause) ORDER BY g.generation), '[]')
                             FROM authority_rebalance g
                            WHERE g.generation IN (SELECT (data ->> 'generation')::bigint FROM told
                                                    WHERE kind = 'rebalanced')),
           'refusals', (SELECT coalesce(json_agg(json_build_array(
                                   r.id, r.symbol, round(date_part('epoch', r.at) * 1000)::bigint, r.node, r.epoch, r.reason)
                                   ORDER BY r.id), '[]') FROM refused r)
       )::text END
  FROM asked a
