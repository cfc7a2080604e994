-- Takes one external order: matches it, records its fills, moves the position, rests or ends it. One commit.
--
-- The simplest kind, an order that the live quote alone fills with something to spare, takes one statement per table here. That
-- nothing else comes first is read in the quote row itself: PostgreSQL judges it again when the UPDATE had to wait and the row
-- has changed. Whatever is not that simple, bad input and known ids among it, changes nothing here and goes to
-- exchange_match_order_v2.
--
-- The clock is asked once more when all is done: no fill commits after its quote has lapsed, whatever has been waited for (the
-- quote's row, the position's). Raises serialization_failure then; the next try finds the quote lapsed from the start.
--
-- Locks: the symbol's quote row (it orders all that happens to the symbol), then its position row.
-- Answers and other errors: see exchange_match_order_v2. One more case of unique_violation: the same id at the same moment on the
-- same symbol. It is retried, and then answered from what the first one left. Keeps I6, I7, I8, I9, I12.
CREATE FUNCTION exchange_submit_order_v3(
    p_client_order_id text, p_symbol text, p_side text, p_type text, p_time_in_force text, p_price numeric,
    p_quantity numeric, p_step bigint DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    q record;
    v_ours text;
    v_fills jsonb;
BEGIN
    IF octet_length(p_client_order_id) BETWEEN 1 AND 64 AND p_client_order_id !~ '^[^A-Za-z0-9]|[^A-Za-z0-9._:-]'
       AND NOT starts_with(p_client_order_id, 'ext-') AND p_step IS NULL
       AND p_type = (CASE WHEN p_price IS NULL THEN 'market' ELSE 'limit' END)
       AND p_time_in_force = ANY ('{IOC,FOK,GTC}') AND (p_price IS NOT NULL OR p_time_in_force <> 'GTC')
       AND p_quantity > 0 AND coalesce(p_price, 1) < 1e15 THEN
        IF p_side = 'buy' THEN
            UPDATE exchange_quote SET sequence = sequence + 1, ask_quantity = ask_quantity - p_quantity
             WHERE symbol = p_symbol AND valid_until > clock_timestamp() AND ask_quantity > p_quantity
               AND ask_price <= coalesce(p_price, ask_price) AND coalesce(p_price % tick_size, 0) = 0
               AND p_quantity % lot_size = 0 AND (book_ask > ask_price) IS NOT FALSE
               AND NOT EXISTS (SELECT FROM exchange_order WHERE client_order_id = p_client_order_id)
            RETURNING ask_price AS price, sequence, version, quote_epoch, quote_incarnation, quote_node, tick_size, lot_size,
                      valid_until INTO q;
            v_ours := 'sell';
        ELSIF p_side = 'sell' AND coalesce(p_price, 1) > 0 THEN
            UPDATE exchange_quote SET sequence = sequence + 1, bid_quantity = bid_quantity - p_quantity
             WHERE symbol = p_symbol AND valid_until > clock_timestamp() AND bid_quantity > p_quantity
               AND bid_price >= coalesce(p_price, bid_price) AND coalesce(p_price % tick_size, 0) = 0
               AND p_quantity % lot_size = 0 AND (book_bid < bid_price) IS NOT FALSE
               AND NOT EXISTS (SELECT FROM exchange_order WHERE client_order_id = p_client_order_id)
            RETURNING bid_price AS price, sequence, version, quote_epoch, quote_incarnation, quote_node, tick_size, lot_size,
                      valid_until INTO q;
            v_ours := 'buy';
        END IF;
    END IF;
    IF NOT FOUND THEN
        RETURN exchange_match_order_v2(
            p_client_order_id, p_symbol, p_side, p_type, p_time_in_force, p_price, p_quantity, p_step);
    END IF;

    IF ledger_record_fill_v2(
           p_symbol, q.sequence, v_ours, q.price, p_quantity, p_client_order_id, q.version, q.quote_epoch,
           q.quote_incarnation, q.quote_node, q.tick_size, q.lot_size) <> 'recorded' THEN
        RAISE EXCEPTION 'the ledger knows fill % of %', q.sequence, p_symbol;
    END IF;
    v_fills := jsonb_build_array(jsonb_build_object(
        'fill_id', p_symbol || '-' || lpad(q.sequence::text, 12, '0'), 'price', trim_scale(q.price)::text,
        'quantity', trim_scale(p_quantity)::text));
    INSERT INTO exchange_order (client_order_id, symbol, side, type, time_in_force, price, quantity, filled_quantity,
                                filled_notional, status, fills, tick_size, lot_size)
    VALUES (p_client_order_id, p_symbol, p_side, p_type, p_time_in_force, p_price, p_quantity, p_quantity,
            p_quantity * q.price, 'filled', v_fills, q.tick_size, q.lot_size);
    IF q.valid_until <= clock_timestamp() THEN
        RAISE EXCEPTION 'the quote of % lapsed while it was filled', p_symbol USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN jsonb_build_object(
        'client_order_id', p_client_order_id, 'status', 'filled', 'filled_quantity', trim_scale(p_quantity)::text,
        'remaining_quantity', '0', 'average_price', trim_scale(round(q.price, 10))::text, 'fills', v_fills,
        'reject_code', NULL);
END
$$;
