-- Who held which symbol over the last while, as one JSON text: tenures, births and deaths of incarnations, generations, refused
-- writes. All in one snapshot, and bounded.
--
-- Locks: none. last_s seconds back; tenures, lives, refusals, generations: how many of each at most, the newest.
-- Of each symbol the tenures that reach into the period, and the one before them: what the gap before the first one follows. Only
-- the newest tenures are read, by their key, however long the history is; `known_from` says from when on none is missing, and is null
-- where that is all of the period. `horizon` is where authority_changes.sql goes on: all transactions below it have ended.
-- A tenure is [symbol, epoch, node, granted, ended, reason], a refusal [id, symbol, at, node, epoch, reason], times in ms since 1970.
WITH asked AS MATERIALIZED (
    SELECT statement_timestamp() AS now, statement_timestamp() - make_interval(secs => %(last_s)s) AS since,
           pg_snapshot_xmin(pg_current_snapshot()) AS horizon
), newest AS MATERIALIZED (
    SELECT symbol, epoch, node, granted_at, ended_at, reason FROM authority_tenure ORDER BY id DESC LIMIT %(tenures)s
), before AS MATERIALIZED (
    SELECT t.*
      FROM exchange_symbol s
      LEFT JOIN (SELECT symbol, min(epoch) AS epoch FROM newest GROUP BY symbol) n ON n.symbol = s.name
     CROSS JOIN LATERAL (
         SELECT symbol, epoch, node, granted_at, ended_at, reason FROM authority_tenure t
          WHERE t.symbol = s.name AND t.epoch < coalesce(n.epoch, 9223372036854775807) ORDER BY t.epoch DESC LIMIT 1) t
), tenures AS (
    SELECT t.*, lead(granted_at) OVER (PARTITION BY symbol ORDER BY epoch) AS next_at
      FROM (SELECT * FROM newest UNION ALL SELECT * FROM before) t
), lives AS (
    (SELECT * FROM authority_incarnation ORDER BY serial DESC LIMIT %(lives)s)
    UNION (SELECT * FROM authority_incarnation WHERE ended_at IS NULL ORDER BY node LIMIT %(lives)s)
), refusals AS (
    SELECT * FROM authority_refusal ORDER BY id DESC LIMIT %(refusals)s
), generations AS (
    SELECT * FROM authority_rebalance ORDER BY generation DESC LIMIT %(generations)s
)
SELECT json_build_object(
           'complete', true, 'now', a.now, 'since', a.since, 'horizon', a.horizon::text,
           'known_from', (SELECT max(b.granted_at) FROM before b WHERE b.granted_at > a.since AND b.epoch > 1),
           'symbols', (SELECT coalesce(json_agg(s.name ORDER BY s.name), '[]') FROM exchange_symbol s),
           'tenures', (SELECT coalesce(json_agg(json_build_array(
                                  t.symbol, t.epoch, t.node, round(date_part('epoch', t.granted_at) * 1000)::bigint,
                                  round(date_part('epoch', t.ended_at) * 1000)::bigint, t.reason)), '[]')
                         FROM tenures t WHERE coalesce(t.next_at, 'infinity') > a.since),
           'lives', (SELECT coalesce(json_agg(json_build_object(
                                'id', i.id, 'serial', i.serial, 'node', i.node, 'registered_at', i.registered_at,
                                'ended_at', i.ended_at, 'end_reason', i.end_reason) ORDER BY i.serial), '[]') FROM lives i),
           'generations', (SELECT coalesce(json_agg(json_build_object(
                                      'generation', g.generation, 'at', g.at, 'by', g.applied_by, 'members', g.members,
                                      'moves', g.moves, 'cause', g.cause) ORDER BY g.generation), '[]') FROM generations g),
           'refusals', (SELECT coalesce(json_agg(json_build_array(
                                   r.id, r.symbol, round(date_part('epoch', r.at) * 1000)::bigint, r.node, r.epoch, r.reason)
                                   ORDER BY r.id), '[]') FROM refusals r WHERE r.at >= a.since)
       )::text
  FROM asked a
