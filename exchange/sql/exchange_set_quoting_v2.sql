-- The kill switch: turns quoting on or off for these symbols, or for all (null).
--
-- Locks: the quote rows, in symbol order. One that somebody keeps locked is left as it is, and answered without before and
-- after, so that it keeps no other symbol from being stopped (exchange_lock_quotes_v1). Turning off withdraws the live quotes
-- in the same commit, so that no fill can follow it. Every symbol that was locked leaves an audit row, changed or not.
-- Rings mm_market.
-- Returns symbol, before, after. Raises MM404 for an unknown symbol, and then nothing changes. Keeps I12 and I13.
CREATE FUNCTION exchange_set_quoting_v2(p_symbols text[], p_enabled boolean, p_actor text, p_reason text DEFAULT '')
RETURNS TABLE (symbol text, before boolean, after boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_named text[];
    v_locked text[];
    v_before boolean[];
    v_unknown text;
    v_action text := CASE WHEN p_enabled THEN 'quoting_on' ELSE 'quoting_off' END;
BEGIN
    SELECT s INTO v_unknown FROM unnest(p_symbols) s WHERE NOT EXISTS (SELECT FROM exchange_quote q WHERE q.symbol = s) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'unknown symbol %', v_unknown USING ERRCODE = 'MM404';
    END IF;
    SELECT array_agg(q.symbol) INTO v_named FROM exchange_quote q WHERE p_symbols IS NULL OR q.symbol = ANY (p_symbols);
    v_locked := exchange_lock_quotes_v1(v_named, p_wait => true);
    SELECT array_agg(q.symbol), array_agg(q.quoting_enabled) INTO v_locked, v_before
      FROM exchange_quote q WHERE q.symbol = ANY (v_locked);
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
                   FROM unnest(v_named) AS n (symbol) LEFT JOIN unnest(v_locked, v_before) AS i (symbol, before) USING (symbol);
END
$$;
