-- Locks the leases of these symbols, and then the quote rows of those that the incarnation holds (that are free, with null), both
-- in symbol order, and says which these are: what somebody else keeps locked is left out. Internal.
--
-- Locks: lease rows, then quote rows. Who holds a lease is judged under its lock. With p_wait it waits for either, 700 ms at most
-- for each lock (see exchange_lock_quotes_v1); who comes back for what was left out does not wait for it again.
CREATE FUNCTION authority_lock_leases_v1(p_symbols text[], p_incarnation uuid, p_wait boolean) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '700ms'
AS $$
DECLARE
    v_locked text[];
    v_done boolean := false;
BEGIN
    IF p_wait THEN
        BEGIN
            SELECT array_agg(l.symbol) FILTER (WHERE l.incarnation IS NOT DISTINCT FROM p_incarnation) INTO v_locked
              FROM (SELECT symbol, incarnation FROM authority_lease WHERE symbol = ANY (p_symbols)
                     ORDER BY symbol FOR UPDATE) l;
            v_done := true;
        EXCEPTION WHEN lock_not_available THEN
            NULL;
        END;
    END IF;
    IF NOT v_done THEN
        SELECT array_agg(l.symbol) FILTER (WHERE l.incarnation IS NOT DISTINCT FROM p_incarnation) INTO v_locked
          FROM (SELECT symbol, incarnation FROM authority_lease WHERE symbol = ANY (p_symbols)
                 ORDER BY symbol FOR UPDATE SKIP LOCKED) l;
    END IF;
    IF v_locked IS NULL THEN
        RETURN '{}';
    END IF;
    RETURN exchange_lock_quotes_v1(v_locked, p_wait);
END
$$;
