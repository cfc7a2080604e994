-- What a symbol's page shows beside what the stream tells: its parameters, its book, its newest fills and orders, in one snapshot.
-- One row of JSON text; none when there is no such symbol.
--
-- Locks: none. `symbol`; `levels` price levels a side at most, of the best `resting` resting orders; `rows` fills and
-- orders at most. Orders have no index by symbol, which each of them would pay for: the newest `looked` of all symbols are
-- looked through, newest first, until enough are found. Decimals are strings with the decimals of tick or lot.
SELECT json_build_object(
           'symbol', s.name, 'at', clock_timestamp(),
           'parameters', json_build_object(
               'tick_size', trim_scale(s.tick_size)::text, 'lot_size', trim_scale(s.lot_size)::text,
               'half_spread_ticks', s.half_spread_ticks::text, 'skew_ticks', s.skew_ticks::text,
               'quote_size', trim_scale(s.quote_size)::text, 'position_limit', trim_scale(s.position_limit)::text,
               'seed_price', trim_scale(s.seed_price)::text, 'volatility_bps', s.volatility_bps::text,
               'orders_per_step', trim_scale(s.orders_per_step)::text, 'parameters_version', s.parameters_version::text),
           'bids', (SELECT coalesce(json_agg(json_build_array(round(l.price, g.price_decimals)::text,
                                                              round(l.quantity, g.size_decimals)::text, l.orders)), '[]')
                      FROM (SELECT price, sum(rest) AS quantity, count(*) AS orders
                              FROM (SELECT price, quantity - filled_quantity AS rest FROM exchange_order
                                     WHERE symbol = %(symbol)s AND side = 'buy' AND status IN ('resting', 'partially_filled')
                                     ORDER BY price DESC, id DESC LIMIT %(resting)s) best
                             GROUP BY price ORDER BY price DESC LIMIT %(levels)s) l),
           'asks', (SELECT coalesce(json_agg(json_build_array(round(l.price, g.price_decimals)::text,
                                                              round(l.quantity, g.size_decimals)::text, l.orders)), '[]')
                      FROM (SELECT price, sum(rest) AS quantity, count(*) AS orders
                              FROM (SELECT price, quantity - filled_quantity AS rest FROM exchange_order
                                     WHERE symbol = %(symbol)s AND side = 'sell' AND status IN ('resting', 'partially_filled')
                                     ORDER BY price, id LIMIT %(resting)s) best
                             GROUP BY price ORDER BY price LIMIT %(levels)s) l),
           'fills', (SELECT coalesce(json_agg(json_build_object(
                                'fill_id', f.fill_id, 'at', f.filled_at, 'side', f.side,
                                'price', round(f.price, g.price_decimals)::text,
                                'quantity', round(f.quantity, g.size_decimals)::text,
                                'position', round(f.quantity_after, g.size_decimals)::text,
                                'node', f.node, 'epoch', f.epoch, 'client_order_id', f.client_order_id)), '[]')
                       FROM (SELECT * FROM ledger_fill
                              WHERE fill_id > %(symbol)s || '-' COLLATE "C" AND fill_id < %(symbol)s || '.' COLLATE "C"
                              ORDER BY fill_id DESC LIMIT %(rows)s) f),
           'orders', (SELECT coalesce(json_agg(json_build_object(
                                'client_order_id', o.client_order_id, 'at', o.created_at, 'side', o.side, 'type', o.type,
                                'time_in_force', o.time_in_force, 'price', round(o.price, g.price_decimals)::text,
                                'quantity', round(o.quantity, g.size_decimals)::text,
                                'filled', round(o.filled_quantity, g.size_decimals)::text,
                                'status', o.status, 'reject_code', o.reject_code)), '[]')
                        FROM (SELECT * FROM (SELECT * FROM exchange_order ORDER BY id DESC LIMIT %(looked)s) newest
                               WHERE symbol = %(symbol)s ORDER BY id DESC LIMIT %(rows)s) o)
       )::text
  FROM exchange_symbol s
 CROSS JOIN LATERAL (SELECT scale(trim_scale(s.tick_size)) AS price_decimals,
                            scale(trim_scale(s.lot_size)) AS size_decimals) g
 WHERE s.name = %(symbol)s
