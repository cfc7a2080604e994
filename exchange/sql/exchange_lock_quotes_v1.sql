-- Locks the quote rows of these symbols, in symbol order, and says which: what somebody else keeps locked is left out, so that
-- it holds up nothing but itself. Called by authority, which acts on those that it got and comes back for the others.
--
-- Locks: the quote rows. With p_wait it waits for them, 700 ms at most for each lock, longer than any order or quote holds it;
-- after that, and without p_wait, it takes what is free just now. No deadlock comes of it: the wait is over before the server
-- looks for one.
CREATE FUNCTION exchange_lock_quotes_v1(p_symbols text[], p_wait boolean) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '700ms'
AS $$
DECLARE
    v_locked text[];
BEGIN
    IF p_wait THEN
        BEGIN
            SELECT array_agg(q.symbol) INTO v_locked
              FROM (SELECT symbol FROM exchange_quote WHERE symbol = ANY (p_symbols) ORDER BY symbol FOR UPDATE) q;
            RETURN coalesce(v_locked, '{}');
        EXCEPTION WHEN lock_not_available THEN
            NULL;
        END;
    END IF;
    SELECT array_agg(q.symbol) INTO v_locked
      FROM (SELECT symbol FROM exchange_quote WHERE symbol = ANY (p_symbols) ORDER BY symbol FOR UPDATE SKIP LOCKED) q;
    RETURN coalesce(v_locked, '{}');
END
$$;
