-- All that the live page shows, in one snapshot: a row per symbol and per node, and one summary, each as its JSON text.
--
-- Locks: none. Decimals are strings with the decimals of the symbol's tick or lot (money: 2), so that the page never
-- calculates with them. A lease's expiry is its holder's `expires_at`, hence a symbol's row names the incarnation only
-- and stays as it is while its holder renews.
SELECT 'symbol' AS kind, s.name AS key, json_build_object(
           'symbol', s.name, 'node', l.node, 'incarnation', l.incarnation, 'epoch', coalesce(l.epoch, 0),
           'granted_at', l.granted_at, 'enabled', q.quoting_enabled,
           'bid', round(q.bid_price, g.price_decimals)::text, 'bid_size', round(q.bid_quantity, g.size_decimals)::text,
           'ask', round(q.ask_price, g.price_decimals)::text, 'ask_size', round(q.ask_quantity, g.size_decimals)::text,
           'spread_ticks', ((q.ask_price - q.bid_price) / s.tick_size)::bigint, 'version', q.version,
           'quote_node', q.quote_node, 'quote_epoch', q.quote_epoch, 'published_at', q.published_at,
           'valid_until', q.valid_until, 'price', round(m.price, g.price_decimals)::text,
           'price_decimals', g.price_decimals, 'position', round(p.quantity, g.size_decimals)::text,
           'average_cost', round(p.average_cost, g.price_decimals + 2)::text,
           'limit', round(s.position_limit, g.size_decimals)::text,
           'limit_percent', CASE WHEN s.position_limit = 0 THEN 0
                                 ELSE round(100 * p.quantity / s.position_limit)::integer END,
           'realised', round(p.realised_pnl, 2)::text, 'unrealised', round(p.unrealised_pnl, 2)::text,
           'fills', p.version, 'filled_at', CASE WHEN p.version > 0 THEN p.updated_at END
       )::text AS row
  FROM exchange_symbol s
  JOIN exchange_quote q ON q.symbol = s.name
  JOIN exchange_price m ON m.symbol = s.name
  JOIN exchange_position_marked p ON p.symbol = s.name
  LEFT JOIN authority_lease l ON l.symbol = s.name
 CROSS JOIN LATERAL (SELECT scale(trim_scale(s.tick_size)) AS price_decimals,
                            scale(trim_scale(s.lot_size)) AS size_decimals) g
UNION ALL
SELECT 'node', n.name, json_build_object(
           'node', n.name, 'draining', n.draining, 'incarnation', i.id, 'registered_at', i.registered_at,
           'expires_at', i.expires_at, 'ttl_ms', i.ttl_ms, 'ended_at', i.ended_at, 'end_reason', i.end_reason,
           'ending', i.ending,
           'held', (SELECT count(*) FROM authority_lease l WHERE l.incarnation = i.id),
           'assigned', (SELECT count(*) FROM authority_assignment a WHERE a.node = n.name)
       )::text
  FROM authority_node n
 CROSS JOIN LATERAL (SELECT * FROM authority_incarnation i WHERE i.node = n.name ORDER BY i.serial DESC LIMIT 1) i
UNION ALL
SELECT 'summary', '', json_build_object(
           'now', clock_timestamp(), 'step', (SELECT step FROM exchange_clock),
           'tick_ms', (SELECT tick_ms FROM exchange_clock),
           'generation', (SELECT coalesce(max(generation), 0) FROM authority_rebalance),
           'symbols', count(*), 'enabled', count(*) FILTER (WHERE q.quoting_enabled), 'fills', coalesce(sum(p.version), 0),
           -- Counted by the server's statistics, a second late at most: counting the rows would read them all.
           'orders', pg_stat_get_tuples_inserted('exchange_order'::regclass),
           'open_positions', count(*) FILTER (WHERE p.quantity <> 0),
           'realised', round(coalesce(sum(p.realised_pnl), 0), 2)::text,
           'unrealised', round(coalesce(sum(p.unrealised_pnl), 0), 2)::text
       )::text
  FROM exchange_quote q JOIN exchange_position_marked p ON p.symbol = q.symbol
