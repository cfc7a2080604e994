-- Takes one external order: matches it, records its fills, moves the position, rests or ends it. One commit.
--
-- Locks: the symbol's quote row (it orders all that happens to the symbol), then its position row.
-- Returns the order's answer, or {"error": code} with nothing changed: unknown_symbol, invalid_order_id, invalid_side,
-- invalid_type, invalid_time_in_force, invalid_price, invalid_quantity, off_tick, off_lot, duplicate_client_order_id.
-- The same order again returns the first answer. Two at once under one id on two symbols: the second raises
-- unique_violation; it is retried, and then answered from what the first one left.
--
-- Matching: price, then arrival, between resting orders and the quote (whose arrival is its publication), at the resting
-- side's price. A quote takes part until it is withdrawn, superseded, used up, or past valid_until.
-- Keeps I6, I7, I8, I9, I12.
CREATE FUNCTION exchange_submit_order_v1(
    p_client_order_id text, p_symbol text, p_side text, p_type text, p_time_in_force text, p_price numeric,
    p_quantity numeric, p_step bigint DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    q exchange_quote;
    o exchange_order;
    m record;
    v_error text;
    v_buys boolean := p_side = 'buy';
    v_resting_side text := CASE p_side WHEN 'buy' THEN 'sell' ELSE 'buy' END;
    v_lowest numeric := CASE WHEN p_side = 'sell' THEN coalesce(p_price, 0) ELSE 0 END;
    v_highest numeric := CASE WHEN p_side = 'buy' THEN coalesce(p_price, 1e15) ELSE 1e15 END;
    v_quote_price numeric;
    v_quote_quantity numeric;
    v_left numeric := p_quantity;
    v_quantity numeric;
    v_id text;
    v_first_trade bigint;
    v_quote_touched boolean := false;
BEGIN
    SELECT * INTO q FROM exchange_quote WHERE symbol = p_symbol FOR UPDATE;
    v_error := CASE
        WHEN q.symbol IS NULL THEN 'unknown_symbol'
        WHEN p_client_order_id !~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$' OR p_client_order_id IS NULL THEN 'invalid_order_id'
        WHEN p_side IS NULL OR p_side NOT IN ('buy', 'sell') THEN 'invalid_side'
        WHEN p_type IS NULL OR p_type NOT IN ('limit', 'market') THEN 'invalid_type'
        WHEN p_time_in_force IS NULL OR p_time_in_force NOT IN ('GTC', 'IOC', 'FOK')
          OR p_type = 'market' AND p_time_in_force = 'GTC' THEN 'invalid_time_in_force'
        WHEN (p_price IS NULL) <> (p_type = 'market')
          OR NOT coalesce(p_price > 0 AND p_price < 1e15, true) THEN 'invalid_price'
        WHEN p_quantity IS NULL OR NOT (p_quantity > 0 AND p_quantity < 1e15) THEN 'invalid_quantity'
        WHEN p_price % q.tick_size <> 0 THEN 'off_tick'
        WHEN p_quantity % q.lot_size <> 0 THEN 'off_lot'
    END;
    IF v_error IS NOT NULL THEN
        RETURN jsonb_build_object('error', v_error);
    END IF;
    SELECT * INTO o FROM exchange_order WHERE client_order_id = p_client_order_id;
    IF FOUND THEN
        IF (o.symbol, o.side, o.type, o.time_in_force, o.price, o.quantity)
           IS DISTINCT FROM (p_symbol, p_side, p_type, p_time_in_force, p_price, p_quantity) THEN
            RETURN jsonb_build_object('error', 'duplicate_client_order_id');
        END IF;
        RETURN coalesce(o.first_answer, exchange_order_answer_v1(o));
    END IF;

    o.client_order_id := p_client_order_id;
    o.filled_quantity := 0;
    o.filled_notional := 0;
    o.fills := '[]';
    v_first_trade := q.trade_sequence;
    IF q.valid_until > clock_timestamp()
       AND (CASE WHEN v_buys THEN q.ask_price ELSE q.bid_price END) BETWEEN v_lowest AND v_highest THEN
        v_quote_price := CASE WHEN v_buys THEN q.ask_price ELSE q.bid_price END;
        v_quote_quantity := CASE WHEN v_buys THEN q.ask_quantity ELSE q.bid_quantity END;
    END IF;

    -- Fill or kill is decided before anything trades.
    IF p_time_in_force = 'FOK' AND p_quantity > coalesce(v_quote_quantity, 0) + (
        SELECT coalesce(sum(quantity - filled_quantity), 0) FROM exchange_order
         WHERE symbol = p_symbol AND side = v_resting_side AND status IN ('resting', 'partially_filled')
           AND price BETWEEN v_lowest AND v_highest
    ) THEN
        o.reject_code := 'fok_unfillable';
        v_left := 0;
    END IF;

    IF v_left > 0 THEN
        FOR m IN
            SELECT * FROM (
                SELECT id, client_order_id, price, quantity - filled_quantity AS available, id AS arrival
                  FROM exchange_order
                 WHERE symbol = p_symbol AND side = v_resting_side AND status IN ('resting', 'partially_filled')
                   AND price BETWEEN v_lowest AND v_highest
                UNION ALL
                SELECT NULL, NULL, v_quote_price, v_quote_quantity, q.arrival WHERE v_quote_price IS NOT NULL
            ) candidate
            ORDER BY CASE WHEN v_buys THEN price ELSE -price END, arrival
        LOOP
            EXIT WHEN v_left = 0;
            v_quantity := least(v_left, m.available);
            IF m.id IS NULL THEN
                q.sequence := q.sequence + 1;
                v_id := p_symbol || '-' || lpad(q.sequence::text, 12, '0');
                PERFORM ledger_record_fill_v1(p_symbol, q.sequence, CASE WHEN v_buys THEN 'sell' ELSE 'buy' END, m.price,
                                              v_quantity, p_client_order_id, q.version, q.quote_epoch, q.quote_incarnation,
                                              q.quote_node, q.tick_size, q.lot_size);
                v_quote_quantity := v_quote_quantity - v_quantity;
                v_quote_touched := true;
            ELSE
                q.trade_sequence := q.trade_sequence + 1;
                v_id := p_symbol || '-X' || lpad(q.trade_sequence::text, 12, '0');
                INSERT INTO exchange_trade (trade_id, symbol, sequence, price, quantity, maker_order_id, taker_order_id)
                VALUES (v_id, p_symbol, q.trade_sequence, m.price, v_quantity, m.client_order_id, p_client_order_id);
                UPDATE exchange_order
                   SET filled_quantity = filled_quantity + v_quantity,
                       filled_notional = filled_notional + v_quantity * price,
                       status = CASE WHEN filled_quantity + v_quantity = quantity THEN 'filled' ELSE 'partially_filled' END,
                       fills = fills || jsonb_build_object('fill_id', v_id, 'price', trim_scale(price)::text,
                                                           'quantity', trim_scale(v_quantity)::text),
                       updated_at = clock_timestamp()
                 WHERE id = m.id;
            END IF;
            o.filled_quantity := o.filled_quantity + v_quantity;
            o.filled_notional := o.filled_notional + v_quantity * m.price;
            o.fills := o.fills || jsonb_build_object('fill_id', v_id, 'price', trim_scale(m.price)::text,
                                                     'quantity', trim_scale(v_quantity)::text);
            v_left := v_left - v_quantity;
        END LOOP;
    END IF;

    IF p_type = 'market' AND o.filled_quantity = 0 AND o.reject_code IS NULL THEN
        o.reject_code := 'no_liquidity';
    END IF;
    o.quantity := p_quantity;
    o.status := CASE
        WHEN o.reject_code IS NOT NULL THEN 'rejected'
        WHEN o.filled_quantity = p_quantity THEN 'filled'
        WHEN p_time_in_force <> 'GTC' THEN 'cancelled'
        WHEN o.filled_quantity > 0 THEN 'partially_filled'
        ELSE 'resting'
    END;
    IF o.status IN ('resting', 'partially_filled') THEN
        o.first_answer := exchange_order_answer_v1(o);
    END IF;
    INSERT INTO exchange_order (client_order_id, symbol, side, type, time_in_force, price, quantity, filled_quantity,
                                filled_notional, status, reject_code, fills, first_answer, step, tick_size, lot_size)
    VALUES (p_client_order_id, p_symbol, p_side, p_type, p_time_in_force, p_price, p_quantity, o.filled_quantity,
            o.filled_notional, o.status, o.reject_code, o.fills, o.first_answer, p_step, q.tick_size, q.lot_size);
    IF v_quote_touched OR q.trade_sequence <> v_first_trade THEN
        v_quote_quantity := nullif(v_quote_quantity, 0);
        UPDATE exchange_quote
           SET sequence = q.sequence, trade_sequence = q.trade_sequence,
               bid_price = CASE WHEN v_quote_touched AND NOT v_buys AND v_quote_quantity IS NULL THEN NULL ELSE bid_price END,
               bid_quantity = CASE WHEN v_quote_touched AND NOT v_buys THEN v_quote_quantity ELSE bid_quantity END,
               ask_price = CASE WHEN v_quote_touched AND v_buys AND v_quote_quantity IS NULL THEN NULL ELSE ask_price END,
               ask_quantity = CASE WHEN v_quote_touched AND v_buys THEN v_quote_quantity ELSE ask_quantity END
         WHERE symbol = p_symbol;
    END IF;
    IF o.status <> 'filled' THEN
        INSERT INTO journal_activity (kind, symbol, data)
        VALUES ('order', p_symbol,
                jsonb_build_object('client_order_id', p_client_order_id, 'status', o.status, 'side', p_side, 'type', p_type,
                                   'time_in_force', p_time_in_force, 'price', trim_scale(p_price)::text,
                                   'quantity', trim_scale(p_quantity)::text, 'reject_code', o.reject_code));
    END IF;
    RETURN exchange_order_answer_v1(o);
END
$$;
