-- The kill switch: turns quoting on or off for these symbols, or for all (null), in one commit.
--
-- A symbol whose row somebody keeps locked keeps no other from being stopped: it is left as it is, and answered without before
-- and after. A single one is waited for up to 4 s. Several are locked together as a rule; if one of them can't be had in 300 ms,
-- they are locked one by one, with 3.5 s for all: each is waited for until half of what is left is over, 1.2 s at most. In all it
-- takes less than the 5 s that a client of the API waits.
--
-- Locks: the quote rows, in symbol order; those that it has stay locked while it waits for the next. Turning off withdraws the
-- live quotes in the same commit, so that no fill can follow it. Every symbol that was locked leaves an audit row, changed or
-- not. Rings mm_market.
-- Returns symbol, before, after, in symbol order. Raises MM404 for an unknown symbol, and then nothing changes.
-- Keeps I12 and I13.
CREATE FUNCTION exchange_set_quoting_v2(p_symbols text[], p_enabled boolean, p_actor text, p_reason text DEFAULT '')
RETURNS TABLE (symbol text, before boolean, after boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '300ms'
AS $$
#variable_conflict use_column
DECLARE
    v_named text[];
    v_locked text[];
    v_before boolean[];
    v_symbol text;
    v_was boolean;
    v_until timestamptz;
    v_wait_ms integer;
    v_unknown text;
    v_action text := CASE WHEN p_enabled THEN 'quoting_on' ELSE 'quoting_off' END;
BEGIN
    SELECT s INTO v_unknown FROM unnest(p_symbols) s WHERE NOT EXISTS (SELECT FROM exchange_quote q WHERE q.symbol = s) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'unknown symbol %', v_unknown USING ERRCODE = 'MM404';
    END IF;
    SELECT array_agg(q.symbol ORDER BY q.symbol) INTO v_named
      FROM exchange_quote q WHERE p_symbols IS NULL OR q.symbol = ANY (p_symbols);
    IF cardinality(v_named) = 1 THEN
        -- Until the function's end, as it has a setting of its own. Half: there may be two waits, in a queue and for the holder.
        PERFORM set_config('lock_timeout', '2s', true);
    END IF;
    BEGIN
        SELECT array_agg(l.symbol), array_agg(l.quoting_enabled) INTO v_locked, v_before
          FROM (SELECT q.symbol, q.quoting_enabled FROM exchange_quote q
                 WHERE q.symbol = ANY (v_named) ORDER BY q.symbol FOR UPDATE) l;
    EXCEPTION WHEN lock_not_available THEN
        -- One by one. Those that had been locked are free again, and others may have been waiting for them.
        v_locked := '{}';
        v_before := '{}';
        v_until := clock_timestamp() + interval '3500 milliseconds';
        FOREACH v_symbol IN ARRAY v_named LOOP
            BEGIN
                v_wait_ms := least(1200, extract(epoch FROM v_until - clock_timestamp()) * 500);
                IF v_wait_ms > 0 THEN
                    PERFORM set_config('lock_timeout', v_wait_ms::text, true);
                    SELECT q.quoting_enabled INTO v_was FROM exchange_quote q WHERE q.symbol = v_symbol FOR UPDATE;
                ELSE
                    SELECT q.quoting_enabled INTO v_was FROM exchange_quote q WHERE q.symbol = v_symbol FOR UPDATE SKIP LOCKED;
                END IF;
                IF FOUND THEN
                    v_locked := v_locked || v_symbol;
                    v_before := v_before || v_was;
                END IF;
            EXCEPTION WHEN lock_not_available THEN
                NULL;
            END;
        END LOOP;
    END;
    PERFORM set_config('lock_timeout', '2s', true);  -- what little was left for the last row is not for what follows
    IF NOT p_enabled THEN
        PERFORM exchange_withdraw_quotes_v1(v_locked, 'quoting_disabled');
    END IF;
    UPDATE exchange_quote q SET quoting_enabled = p_enabled
     WHERE q.symbol = ANY (v_locked) AND q.quoting_enabled <> p_enabled;
    INSERT INTO journal_audit (actor, action, target, before, after, reason)
    SELECT p_actor, v_action, i.symbol, to_jsonb(i.before), to_jsonb(p_enabled), coalesce(p_reason, '')
      FROM unnest(v_locked, v_before) AS i (symbol, before);
    INSERT INTO journal_activity (kind, symbol, data)
    SELECT v_action, i.symbol, jsonb_build_object('actor', p_actor, 'reason', coalesce(p_reason, ''), 'changed',
                                                  i.before <> p_enabled)
      FROM unnest(v_locked, v_before) AS i (symbol, before);
    PERFORM pg_notify('mm_market', '');
    RETURN QUERY SELECT n.symbol, i.before, CASE WHEN i.before IS NOT NULL THEN p_enabled END
                   FROM unnest(v_named) AS n (symbol) LEFT JOIN unnest(v_locked, v_before) AS i (symbol, before) USING (symbol)
                  ORDER BY n.symbol;
END
$$;
