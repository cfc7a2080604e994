-- The partitions of the quote versions, oldest first, and which times each takes: from from_at to just before to_at. The
-- default, which takes every other time, has neither. Read in the catalogue, so there is no second list to keep true.
CREATE FUNCTION exchange_quote_partitions_v1()
RETURNS TABLE (partition regclass, from_at timestamptz, to_at timestamptz, is_default boolean)
LANGUAGE sql VOLATILE SET search_path = public, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO'
AS $$
    SELECT relation, coalesce(substring(bound FROM $b$FROM \('([^']+)'\)$b$)::timestamptz,
                              CASE WHEN bound <> 'DEFAULT' THEN timestamptz '-infinity' END),
           substring(bound FROM $b$TO \('([^']+)'\)$b$)::timestamptz, bound = 'DEFAULT'
      FROM (SELECT c.oid::regclass AS relation, pg_get_expr(c.relpartbound, c.oid) AS bound
              FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'exchange_quoteversion'::regclass) AS p
     ORDER BY 3 NULLS LAST
$$;
