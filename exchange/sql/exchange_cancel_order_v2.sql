-- Cancels what is left of an open order.
--
-- Locks: the quote row of the order's symbol. Returns the order's state, or {"error": "unknown_order"}, or
-- {"error": "not_open"} for one that is filled or rejected. Cancelling a cancelled order again answers the same.
CREATE FUNCTION exchange_cancel_order_v2(p_client_order_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    v_symbol text;
    o exchange_order;
BEGIN
    -- An order's symbol never changes, so it may be read before the lock that everything else needs.
    SELECT symbol INTO v_symbol FROM exchange_order WHERE client_order_id = p_client_order_id;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('error', 'unknown_order');
    END IF;
    PERFORM 1 FROM exchange_quote WHERE symbol = v_symbol FOR UPDATE;
    UPDATE exchange_order SET status = 'cancelled', updated_at = clock_timestamp()
     WHERE client_order_id = p_client_order_id AND status IN ('resting', 'partially_filled') RETURNING * INTO o;
    IF FOUND THEN
        PERFORM exchange_note_book_v1(v_symbol);
        INSERT INTO journal_activity (kind, symbol, data)
        VALUES ('order', v_symbol, jsonb_build_object('client_order_id', p_client_order_id, 'status', 'cancelled',
                                                      'side', o.side, 'quantity', trim_scale(o.quantity)::text));
        RETURN exchange_order_answer_v1(o);
    END IF;
    SELECT * INTO o FROM exchange_order WHERE client_order_id = p_client_order_id;
    IF o.status = 'cancelled' THEN
        RETURN exchange_order_answer_v1(o);
    END IF;
    RETURN jsonb_build_object('error', 'not_open');
END
$$;
