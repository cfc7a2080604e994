-- Per symbol: how long it was quoted as it should be since from_at, and its longest gap.
--
-- Locks: none. first_id: the id of the first quote version to read (authority_obligation_from.sql).
-- A symbol is quoted as it should be while its newest version has both sides, is no wider than allowed by the half-spread in force when it
-- was published (2 x (half-spread + 1) ticks; what operators changed since is in the audit), and has not reached its valid_until. A version
-- stands until the next one. Before the first one read stands its predecessor; a symbol that has none has never been quoted, which
-- is version 0. Where versions are missing in between they have been dropped with their partition, and that time is unknown.
-- One pass in the order (symbol, version): parts that are good or unknown; what lies between two of them is a gap, whose cause is
-- what ended the part before. Seconds are since 1970. Returns per symbol: begins_s (what is judged), now_s, good_s, unknown_s,
-- known_from_s (the first unknown part's end, or null), gaps, longest [microseconds, beginning in s, cause], holder at its beginning.
WITH asked AS MATERIALIZED (
    SELECT date_part('epoch', statement_timestamp()) AS now_s, %(from_at)s::timestamptz AS from_at
), allowed AS MATERIALIZED (
    SELECT s.name AS symbol, c.until, 2 * (c.half_spread_ticks + 1) * s.tick_size AS spread,
           coalesce(lag(c.until) OVER (PARTITION BY s.name ORDER BY c.until), '-infinity') AS since
      FROM exchange_symbol s
     CROSS JOIN LATERAL (
         SELECT timestamptz 'infinity' AS until, s.half_spread_ticks
         UNION ALL
         (SELECT j.at, (j.before ->> 'half_spread_ticks')::integer FROM journal_audit j
           WHERE s.parameters_version > 1 AND j.target = s.name AND j.action = 'parameters' AND j.before ? 'half_spread_ticks'
           ORDER BY j.id DESC LIMIT 100)) c
), recent AS NOT MATERIALIZED (
    SELECT symbol, version, published_at, valid_until, withdrawn_reason, bid_price, ask_price
      FROM exchange_quoteversion WHERE id >= %(first_id)s
), versions AS (
    SELECT * FROM recent
    UNION ALL
    SELECT s.name, coalesce(p.version, 0), coalesce(p.published_at, s.added_at), p.valid_until,
           CASE WHEN p.version IS NULL THEN 'never' ELSE p.withdrawn_reason END, p.bid_price, p.ask_price
      FROM exchange_symbol s
      LEFT JOIN (SELECT symbol, min(version) AS version FROM recent GROUP BY symbol) f ON f.symbol = s.name
      LEFT JOIN LATERAL (
          SELECT version, published_at, valid_until, withdrawn_reason, bid_price, ask_price FROM exchange_quoteversion v
           WHERE v.symbol = s.name AND v.version < coalesce(f.version, 9223372036854775807) ORDER BY v.version DESC LIMIT 1
      ) p ON true
), judged AS (
    SELECT v.symbol, v.version, a.now_s, date_part('epoch', greatest(v.published_at, a.from_at)) AS begins_s,
           date_part('epoch', v.valid_until) AS lapses_s,
           CASE WHEN v.withdrawn_reason IS NOT NULL THEN v.withdrawn_reason
                WHEN v.bid_price IS NULL OR v.ask_price IS NULL THEN 'not_two_sided'
                WHEN v.ask_price - v.bid_price > w.spread THEN 'too_wide'
                ELSE 'good' END AS state
      FROM versions v
      JOIN allowed w ON w.symbol = v.symbol AND v.published_at > w.since AND v.published_at <= w.until
     CROSS JOIN asked a
), followed AS (
    SELECT *, lead(begins_s, 1, now_s) OVER w AS ends_s, lead(version, 1, version + 1) OVER w <> version + 1 AS is_unknown,
           lead(state, 1, 'now') OVER w AS next_state, row_number() OVER w = 1 AS is_first
      FROM judged WINDOW w AS (PARTITION BY symbol ORDER BY version)
), parts AS (
    SELECT symbol, version, now_s, begins_s, is_unknown,
           CASE WHEN is_unknown THEN ends_s
                WHEN state = 'good' THEN greatest(begins_s, least(ends_s, lapses_s))
                ELSE begins_s END AS stops_s,
           CASE WHEN is_unknown THEN next_state
                WHEN state <> 'good' THEN state
                WHEN lapses_s < ends_s THEN 'lapsed'
                ELSE next_state END AS cause
      FROM followed WHERE state = 'good' OR is_unknown OR is_first
), gaps AS (
    SELECT *, lead(begins_s, 1, now_s) OVER (PARTITION BY symbol ORDER BY version) - stops_s AS gap_s FROM parts
), totals AS (
    SELECT symbol, min(begins_s) AS begins_s, min(now_s) AS now_s, count(*) FILTER (WHERE gap_s > 0) AS gaps,
           coalesce(sum(stops_s - begins_s) FILTER (WHERE NOT is_unknown), 0) AS good_s,
           coalesce(sum(stops_s - begins_s) FILTER (WHERE is_unknown), 0) AS unknown_s,
           max(stops_s) FILTER (WHERE is_unknown) AS known_from_s,
           max(CASE WHEN gap_s > 0 THEN ARRAY[to_char(gap_s * 1000000, 'FM0000000000000000'), stops_s::text, cause] END)
               AS longest
      FROM gaps GROUP BY symbol
)
SELECT t.*, (SELECT h.node FROM authority_tenure h
              WHERE h.symbol = t.symbol AND tstzrange(h.granted_at, h.ended_at) @> to_timestamp(t.longest[2]::float8)
              LIMIT 1) AS holder
  FROM totals t ORDER BY t.symbol
