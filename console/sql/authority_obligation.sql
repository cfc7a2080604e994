-- Per symbol, over some of its quote versions: when it was not quoted as it should be, and when that is not known.
--
-- A symbol is quoted as it should be while its newest version has both sides, is no wider than allowed by the half-spread in force when it
-- was published (2 x (half-spread + 1) ticks; what operators changed since is in the audit), and has not reached its valid_until. A version
-- stands until the next one, the newest until now. A symbol that has none has not been quoted since it was listed, which is version 0.
-- Where versions are missing in between they have been dropped with their partition, and that time is unknown.
--
-- Locks: none. Of each of `symbols` those after version `after` are read, and of these the newest, up to and without `until`, which begins at
-- `until_at`; where `until` is null, up to now. With `all`, so are the symbols that are not named, whole. `versions`: how many to read at
-- most, divided evenly; through (symbol, version), so each statement is short, and none depends on the order of ids or of times.
-- Returns per symbol: now; first_version and first_at, where what was read begins; last_version and last_at, the last one read; and its
-- parts, in order, as begins, ends and causes. A cause is what ended the time before it; `unknown` is no gap.
WITH wanted AS MATERIALIZED (
    SELECT s.name, s.added_at, s.tick_size, s.half_spread_ticks, s.parameters_version, k.until,
           coalesce(k.until_at, statement_timestamp()) AS until_at,
           greatest(coalesce(k.after, 0), 0,
                    coalesce(k.until, (SELECT max(v.version) FROM exchange_quoteversion v WHERE v.symbol = s.name))
                    - greatest(%(versions)s / count(*) OVER (), 1)) AS after
      FROM exchange_symbol s
      LEFT JOIN unnest(%(symbols)s::text[], %(after)s::bigint[], %(until)s::bigint[], %(until_at)s::timestamptz[])
                AS k (symbol, after, until, until_at) ON k.symbol = s.name
     WHERE %(all)s OR k.symbol IS NOT NULL
)
SELECT s.name AS symbol, statement_timestamp() AS now, r.*
  FROM wanted s
 CROSS JOIN LATERAL (
     WITH allowed AS MATERIALIZED (
         SELECT c.until, 2 * (c.half_spread_ticks + 1) * s.tick_size AS spread,
                coalesce(lag(c.until) OVER (ORDER BY c.until), '-infinity') AS since
           FROM (SELECT timestamptz 'infinity' AS until, s.half_spread_ticks
                  UNION ALL
                 (SELECT j.at, (j.before ->> 'half_spread_ticks')::integer FROM journal_audit j
                   WHERE s.parameters_version > 1 AND j.target = s.name AND j.action = 'parameters'
                     AND j.before ? 'half_spread_ticks'
                   ORDER BY j.id DESC LIMIT 100)) c
     ), standing AS MATERIALIZED (
         SELECT version, published_at, valid_until, withdrawn_reason, bid_price, ask_price FROM exchange_quoteversion v
          WHERE v.symbol = s.name AND v.version <= s.after ORDER BY v.version DESC LIMIT 1
     ), versions AS (
         SELECT * FROM standing
         UNION ALL
         SELECT 0, s.added_at, NULL, 'never', NULL, NULL WHERE NOT EXISTS (SELECT FROM standing)
         UNION ALL
         SELECT version, published_at, valid_until, withdrawn_reason, bid_price, ask_price FROM exchange_quoteversion v
          WHERE v.symbol = s.name AND v.version > s.after AND v.version < coalesce(s.until, 9223372036854775807)
     ), judged AS (
         SELECT v.version, v.published_at, v.valid_until, lead(v.published_at, 1, s.until_at) OVER w AS ends_at,
                lead(v.version, 1, coalesce(s.until, v.version + 1)) OVER w <> v.version + 1 AS is_unknown,
                CASE WHEN v.withdrawn_reason IS NOT NULL THEN v.withdrawn_reason
                     WHEN v.bid_price IS NULL OR v.ask_price IS NULL THEN 'not_two_sided'
                     WHEN v.ask_price - v.bid_price > a.spread THEN 'too_wide' END AS state
           FROM versions v JOIN allowed a ON v.published_at > a.since AND v.published_at <= a.until
         WINDOW w AS (ORDER BY v.version)
     ), parts AS (
         SELECT version, published_at, ends_at,
                CASE WHEN is_unknown OR state IS NOT NULL THEN published_at
                     ELSE greatest(published_at, valid_until) END AS begins_at,
                CASE WHEN is_unknown THEN 'unknown' ELSE coalesce(state, 'lapsed') END AS cause
           FROM judged
     )
     SELECT min(version) AS first_version, (array_agg(published_at ORDER BY version))[1] AS first_at,
            max(version) AS last_version, (array_agg(published_at ORDER BY version DESC))[1] AS last_at,
            array_agg(begins_at ORDER BY version) FILTER (WHERE begins_at < ends_at) AS begins,
            array_agg(ends_at ORDER BY version) FILTER (WHERE begins_at < ends_at) AS ends,
            array_agg(cause ORDER BY version) FILTER (WHERE begins_at < ends_at) AS causes
       FROM parts
 ) r
 ORDER BY s.name
