-- Who held each of some symbols at a time of its own. Locks: none. Parameters: symbols, and the times beside them.
SELECT a.symbol, (SELECT h.node FROM authority_tenure h
                   WHERE h.symbol = a.symbol AND tstzrange(h.granted_at, h.ended_at) @> a.at LIMIT 1) AS holder
  FROM unnest(%(symbols)s::text[], %(at)s::timestamptz[]) AS a (symbol, at)
