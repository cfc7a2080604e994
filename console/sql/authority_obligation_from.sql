-- Where the quote versions of the last while begin: an id from which on there is all of it, and at most so many versions.
--
-- Locks: none. last_s seconds back; versions: how many versions at most, the newest.
-- There is no index on their time, and none is worth its price on the table that grows fastest; but ids and times rise together
-- (two transactions at once may take them in different order, hence 10 s to spare), so their key is searched by halves: 20 steps
-- for a million. Returns first_id, from_at (the beginning of what can be judged), is_cut (there are more than so many).
WITH RECURSIVE asked AS MATERIALIZED (
    SELECT statement_timestamp() - make_interval(secs => %(last_s)s) AS since,
           coalesce((SELECT max(id) FROM exchange_quoteversion), 0) AS newest
), search (low, high) AS (
    SELECT greatest(newest - %(versions)s + 1, 1), newest + 1 FROM asked
    UNION ALL
    SELECT CASE WHEN m.at < a.since - interval '10 seconds' THEN m.middle + 1 ELSE s.low END,
           CASE WHEN m.at < a.since - interval '10 seconds' THEN s.high ELSE m.middle END
      FROM search s
     CROSS JOIN asked a
     CROSS JOIN LATERAL (
         SELECT (s.low + s.high) / 2 AS middle,
                (SELECT v.published_at FROM exchange_quoteversion v WHERE v.id >= (s.low + s.high) / 2
                  ORDER BY v.id LIMIT 1) AS at) m
     WHERE s.low < s.high
)
SELECT f.first_id, CASE WHEN f.before_at > f.since THEN f.first_at ELSE f.since END AS from_at,
       coalesce(f.before_at > f.since, false) AS is_cut
  FROM (SELECT s.low AS first_id, a.since,
               (SELECT v.published_at FROM exchange_quoteversion v WHERE v.id < s.low ORDER BY v.id DESC LIMIT 1) AS before_at,
               (SELECT v.published_at FROM exchange_quoteversion v WHERE v.id >= s.low ORDER BY v.id LIMIT 1) AS first_at
          FROM search s CROSS JOIN asked a WHERE s.low >= s.high) f
