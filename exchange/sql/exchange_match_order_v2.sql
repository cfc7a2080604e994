-- Matches one external order: records its fills, moves the position, rests or ends it. Internal: exchange_submit_order_v3 calls it
-- for every order but the simplest kind.
--
-- Locks: the symbol's quote row (it orders all that happens to the symbol), then its position row.
-- Returns the order's answer, or {"error": code} with nothing changed: unknown_symbol, invalid_order_id, invalid_side,
-- invalid_type, invalid_time_in_force, invalid_price, invalid_quantity, off_tick, off_lot, duplicate_client_order_id.
-- The same order again returns the first answer. Two at once under one id on two symbols: the second raises
-- unique_violation; it is retried, and then answered from what the first one left. A quote that lapses while it is filled raises
-- serialization_failure, which is retried too: see exchange_submit_order_v3.
--
-- Matching: price, then arrival, between resting orders and the quote (whose arrival is its publication), at the resting
-- side's price. A quote takes part until it is withdrawn, superseded, used up, or past valid_until.
-- Keeps I6, I7, I8, I9, I12.
CREATE FUNCTION exchange_match_order_v2(
    p_client_order_id text, p_symbol text, p_side text, p_type text, p_time_in_force text, p_price numeric,
    p_quantity numeric, p_step bigint
) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    q record;
    m exchange_order;
    v_known exchange_order;
    v_error text;
    v_buys boolean := p_side = 'buy';
    v_resting_side text := CASE p_side WHEN 'buy' THEN 'sell' ELSE 'buy' END;
    v_lowest numeric := CASE WHEN p_side = 'sell' THEN coalesce(p_price, 0) ELSE 0 END;
    v_highest numeric := CASE WHEN p_side = 'buy' THEN coalesce(p_price, 1e15) ELSE 1e15 END;
    v_resting numeric;
    v_left numeric := p_quantity;
    v_quantity numeric;
    v_quote_left numeric;
    v_notional numeric := 0;
    v_fills jsonb := '[]';
    v_price numeric;
    v_id text;
    v_recorded text;
    v_status text;
    v_reject_code text;
    v_answer jsonb;
BEGIN
    -- 1. The lock that orders all that happens to the symbol; of the quote, the side that this order would meet.
    SELECT tick_size, lot_size, version, quote_epoch, quote_incarnation, quote_node, arrival, sequence, trade_sequence,
           CASE p_side WHEN 'buy' THEN ask_price ELSE bid_price END AS price,
           CASE p_side WHEN 'buy' THEN ask_quantity ELSE bid_quantity END AS quantity,
           CASE p_side WHEN 'buy' THEN book_ask ELSE book_bid END AS best_resting, valid_until
      INTO q FROM exchange_quote WHERE symbol = p_symbol FOR UPDATE;
    v_error := CASE
        WHEN q.tick_size IS NULL THEN 'unknown_symbol'
        -- The counted repetition {0,63} would cost ten times as much as these two.
        WHEN p_client_order_id IS NULL OR octet_length(p_client_order_id) NOT BETWEEN 1 AND 64
          OR p_client_order_id ~ '^[^A-Za-z0-9]|[^A-Za-z0-9._:-]'
          -- The generated orders' ids are theirs alone: one that somebody else has used would stop the flow for good.
          OR starts_with(p_client_order_id, 'ext-') <> (p_step IS NOT NULL)
          OR p_step IS NOT NULL AND NOT pg_has_role(session_user, 'mm_exchange', 'MEMBER') THEN 'invalid_order_id'
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

    -- 2. A known id: the first answer again, or a refusal. Read after the lock is held.
    SELECT * INTO v_known FROM exchange_order WHERE client_order_id = p_client_order_id;
    IF FOUND THEN
        IF (v_known.symbol, v_known.side, v_known.type, v_known.time_in_force, v_known.price, v_known.quantity)
           IS DISTINCT FROM (p_symbol, p_side, p_type, p_time_in_force, p_price, p_quantity) THEN
            RETURN jsonb_build_object('error', 'duplicate_client_order_id');
        END IF;
        RETURN coalesce(v_known.first_answer, exchange_order_answer_v1(v_known));
    END IF;

    -- 3. What rests within the limit, and whether the quote takes part: live and within the limit. Fill or kill is decided
    -- before anything trades.
    IF q.best_resting BETWEEN v_lowest AND v_highest THEN
        SELECT sum(quantity - filled_quantity) INTO v_resting FROM exchange_order
         WHERE symbol = p_symbol AND side = v_resting_side AND status IN ('resting', 'partially_filled')
           AND price BETWEEN v_lowest AND v_highest;
    END IF;
    IF q.valid_until > clock_timestamp() AND q.price BETWEEN v_lowest AND v_highest THEN
        v_quote_left := q.quantity;
    END IF;
    IF p_time_in_force = 'FOK' AND p_quantity > coalesce(v_resting, 0) + coalesce(v_quote_left, 0) THEN
        v_reject_code := 'fok_unfillable';
    END IF;

    -- 4. Match with the best of what is left, then the next best: by price, then by age.
    WHILE v_left > 0 AND v_reject_code IS NULL LOOP
        m := NULL;
        IF v_resting > 0 THEN
            SELECT * INTO m FROM exchange_order
             WHERE symbol = p_symbol AND side = v_resting_side AND status IN ('resting', 'partially_filled')
               AND price BETWEEN v_lowest AND v_highest
             ORDER BY CASE WHEN v_buys THEN price ELSE -price END, id LIMIT 1;
        END IF;
        IF v_quote_left > 0 AND (m.id IS NULL OR q.price <> m.price AND (q.price < m.price) = v_buys
                                 OR q.price = m.price AND q.arrival < m.id) THEN
            v_price := q.price;
            v_quantity := least(v_left, v_quote_left);
            v_quote_left := v_quote_left - v_quantity;
            q.sequence := q.sequence + 1;
            v_id := p_symbol || '-' || lpad(q.sequence::text, 12, '0');
            v_recorded := ledger_record_fill_v2(
                p_symbol, q.sequence, v_resting_side, v_price, v_quantity, p_client_order_id, q.version, q.quote_epoch,
                q.quote_incarnation, q.quote_node, q.tick_size, q.lot_size);
            ASSERT v_recorded = 'recorded';
        ELSIF m.id IS NOT NULL THEN
            v_price := m.price;
            v_quantity := least(v_left, m.quantity - m.filled_quantity);
            v_resting := v_resting - v_quantity;
            q.trade_sequence := q.trade_sequence + 1;
            v_id := p_symbol || '-X' || lpad(q.trade_sequence::text, 12, '0');
            INSERT INTO exchange_trade (trade_id, symbol, sequence, price, quantity, maker_order_id, taker_order_id)
            VALUES (v_id, p_symbol, q.trade_sequence, v_price, v_quantity, m.client_order_id, p_client_order_id);
            UPDATE exchange_order
               SET filled_quantity = filled_quantity + v_quantity,
                   filled_notional = filled_notional + v_quantity * price,
                   status = CASE WHEN filled_quantity + v_quantity = quantity THEN 'filled' ELSE 'partially_filled' END,
                   fills = fills || jsonb_build_object('fill_id', v_id, 'price', trim_scale(price)::text,
                                                       'quantity', trim_scale(v_quantity)::text),
                   updated_at = clock_timestamp()
             WHERE id = m.id;
        ELSE
            EXIT;
        END IF;
        v_left := v_left - v_quantity;
        v_notional := v_notional + v_quantity * v_price;
        v_fills := v_fills || jsonb_build_object('fill_id', v_id, 'price', trim_scale(v_price)::text,
                                                 'quantity', trim_scale(v_quantity)::text);
    END LOOP;
    IF p_type = 'market' AND v_left = p_quantity AND v_reject_code IS NULL THEN
        v_reject_code := 'no_liquidity';
    END IF;

    -- 5. Write what became of it: the order, what is left of the quote and of the book, and the activity when it did not simply
    -- fill.
    v_status := CASE
        WHEN v_reject_code IS NOT NULL THEN 'rejected'
        WHEN v_left = 0 THEN 'filled'
        WHEN p_time_in_force <> 'GTC' THEN 'cancelled'
        WHEN v_left < p_quantity THEN 'partially_filled'
        ELSE 'resting'
    END;
    v_answer := jsonb_build_object(
        'client_order_id', p_client_order_id,
        'status', v_status,
        'filled_quantity', trim_scale(p_quantity - v_left)::text,
        'remaining_quantity', trim_scale(v_left)::text,
        'average_price', CASE WHEN v_left < p_quantity
                              THEN trim_scale(round(v_notional / (p_quantity - v_left), 10))::text END,
        'fills', v_fills,
        'reject_code', v_reject_code);
    INSERT INTO exchange_order (client_order_id, symbol, side, type, time_in_force, price, quantity, filled_quantity,
                                filled_notional, status, reject_code, fills, first_answer, step, tick_size, lot_size)
    VALUES (p_client_order_id, p_symbol, p_side, p_type, p_time_in_force, p_price, p_quantity, p_quantity - v_left,
            v_notional, v_status, v_reject_code, v_fills,
            CASE WHEN v_status IN ('resting', 'partially_filled') THEN v_answer END, p_step, q.tick_size, q.lot_size);
    IF v_left < p_quantity THEN
        UPDATE exchange_quote
           SET sequence = q.sequence, trade_sequence = q.trade_sequence,
               bid_price = CASE WHEN v_buys OR v_quote_left > 0 OR v_quote_left IS NULL THEN bid_price END,
               bid_quantity = CASE WHEN v_buys OR v_quote_left IS NULL THEN bid_quantity ELSE nullif(v_quote_left, 0) END,
               ask_price = CASE WHEN NOT v_buys OR v_quote_left > 0 OR v_quote_left IS NULL THEN ask_price END,
               ask_quantity = CASE WHEN NOT v_buys OR v_quote_left IS NULL THEN ask_quantity ELSE nullif(v_quote_left, 0) END
         WHERE symbol = p_symbol;
    END IF;
    IF v_resting IS NOT NULL OR v_status IN ('resting', 'partially_filled') THEN
        PERFORM exchange_note_book_v1(p_symbol);
    END IF;
    IF v_status <> 'filled' THEN
        INSERT INTO journal_activity (kind, symbol, data)
        VALUES ('order', p_symbol,
                jsonb_build_object('client_order_id', p_client_order_id, 'status', v_status, 'side', p_side, 'type', p_type,
                                   'time_in_force', p_time_in_force, 'price', trim_scale(p_price)::text,
                                   'quantity', trim_scale(p_quantity)::text, 'reject_code', v_reject_code));
    END IF;
    IF v_recorded IS NOT NULL AND q.valid_until <= clock_timestamp() THEN
        RAISE EXCEPTION 'the quote of % lapsed while it was filled', p_symbol USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN v_answer;
END
$$;
