-- A symbol's tenures that reach into the last while, and the writes that its fence refused meanwhile; each newest first, and
-- the newest only. One row of JSON text.
--
-- Locks: none. `symbol`; `seconds` how long a while; `rows` of each at most.
SELECT json_build_object(
           'tenures', (SELECT coalesce(json_agg(json_build_object(
                                  'epoch', t.epoch, 'node', t.node, 'incarnation', t.incarnation,
                                  'granted_at', t.granted_at, 'ended_at', t.ended_at, 'reason', t.reason)), '[]')
                         FROM (SELECT * FROM (SELECT * FROM authority_tenure WHERE symbol = %(symbol)s
                                               ORDER BY epoch DESC LIMIT %(rows)s) newest
                                WHERE ended_at IS NULL
                                   OR ended_at >= statement_timestamp() - %(seconds)s * interval '1 second'
                                ORDER BY epoch DESC) t),
           'refusals', (SELECT coalesce(json_agg(json_build_object(
                                  'at', r.at, 'node', r.node, 'epoch', r.epoch, 'reason', r.reason,
                                  'current_epoch', r.current_epoch)), '[]')
                          FROM (SELECT * FROM authority_refusal
                                 WHERE symbol = %(symbol)s
                                   AND at >= statement_timestamp() - %(seconds)s * interval '1 second'
                                 ORDER BY at DESC, id DESC LIMIT %(rows)s) r)
       )::text
