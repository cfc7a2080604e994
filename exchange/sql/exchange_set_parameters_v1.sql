-- Changes a symbol's quoting parameters; the holder's next quote follows them. A live quote that could take the position beyond
-- a lowered limit is withdrawn in the same commit.
--
-- Locks: the quote row, then the symbol row. p_parameters is a jsonb object with any of half_spread_ticks, skew_ticks,
-- quote_size, position_limit; what makes the market itself (seed price, volatility, order flow) stays as it was created,
-- since every step's prices and orders follow from it. Leaves an audit row. Rings mm_market.
-- Returns {"before": ..., "after": ...}. Raises MM404 for an unknown symbol, MM422 for an unknown parameter, check_violation
-- for a value out of its range.
CREATE FUNCTION exchange_set_parameters_v1(p_symbol text, p_parameters jsonb, p_actor text, p_reason text DEFAULT '')
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    v_names text[] := ARRAY['half_spread_ticks', 'skew_ticks', 'quote_size', 'position_limit'];
    s exchange_symbol;
    n exchange_symbol;
    v_before jsonb;
    v_after jsonb;
BEGIN
    PERFORM 1 FROM exchange_quote WHERE symbol = p_symbol FOR UPDATE;
    SELECT * INTO s FROM exchange_symbol WHERE name = p_symbol FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'unknown symbol %', p_symbol USING ERRCODE = 'MM404';
    END IF;
    IF jsonb_typeof(p_parameters) IS DISTINCT FROM 'object'
       OR EXISTS (SELECT FROM jsonb_object_keys(p_parameters) k WHERE k <> ALL (v_names)) THEN
        RAISE EXCEPTION 'parameters are %', array_to_string(v_names, ', ') USING ERRCODE = 'MM422';
    END IF;
    n := jsonb_populate_record(s, p_parameters);
    UPDATE exchange_symbol
       SET half_spread_ticks = n.half_spread_ticks, skew_ticks = n.skew_ticks, quote_size = n.quote_size,
           position_limit = n.position_limit, parameters_version = s.parameters_version + 1
     WHERE name = p_symbol;
    IF EXISTS (SELECT FROM exchange_quote q JOIN ledger_position p ON p.symbol = q.symbol
                WHERE q.symbol = p_symbol AND (p.quantity + q.bid_quantity > n.position_limit
                                               OR p.quantity - q.ask_quantity < -n.position_limit)) THEN
        PERFORM exchange_withdraw_quotes_v1(ARRAY[p_symbol], 'parameters');
    END IF;
    SELECT jsonb_object_agg(k, to_jsonb(s) -> k), jsonb_object_agg(k, to_jsonb(n) -> k) INTO v_before, v_after
      FROM jsonb_object_keys(p_parameters) k;
    INSERT INTO journal_audit (actor, action, target, before, after, reason)
    VALUES (p_actor, 'parameters', p_symbol, coalesce(v_before, '{}'), coalesce(v_after, '{}'), coalesce(p_reason, ''));
    INSERT INTO journal_activity (kind, symbol, data)
    VALUES ('parameters', p_symbol, jsonb_build_object('actor', p_actor, 'after', coalesce(v_after, '{}')));
    PERFORM pg_notify('mm_market', p_symbol);
    RETURN jsonb_build_object('before', coalesce(v_before, '{}'), 'after', coalesce(v_after, '{}'));
END
$$;
