-- Opens a flat position for each symbol that has none. Returns how many were opened. Locks nothing that exists.
CREATE FUNCTION ledger_open_position_v1(p_symbols text[]) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    WITH opened AS (
        INSERT INTO ledger_position (symbol) SELECT DISTINCT unnest(p_symbols) ORDER BY 1
        ON CONFLICT (symbol) DO NOTHING RETURNING 1
    )
    SELECT count(*)::integer FROM opened
$$;
