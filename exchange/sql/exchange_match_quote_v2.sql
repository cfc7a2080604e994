-- Trades a newly published quote that crosses resting orders with them, at their prices, in the same commit.
--
-- Locks: the symbol's quote row (already held by the caller), then its position row. Internal to replace.
-- The bid side goes first against resting sells, best price and then oldest first; then the ask side against buys.
-- Returns the number of fills. Keeps I8 and I9.
CREATE FUNCTION exchange_match_quote_v2(p_symbol text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    q exchange_quote;
    o record;
    v_quantity numeric;
    v_side text;
    v_fills integer := 0;
BEGIN
    SELECT * INTO q FROM exchange_quote WHERE symbol = p_symbol FOR UPDATE;
    FOREACH v_side IN ARRAY ARRAY['buy', 'sell'] LOOP
        FOR o IN
            SELECT id, client_order_id, price, quantity, filled_quantity FROM exchange_order
             WHERE symbol = p_symbol AND status IN ('resting', 'partially_filled')
               AND side = CASE v_side WHEN 'buy' THEN 'sell' ELSE 'buy' END
               AND CASE v_side WHEN 'buy' THEN price <= q.bid_price ELSE price >= q.ask_price END
             ORDER BY CASE v_side WHEN 'buy' THEN price ELSE -price END, id
        LOOP
            -- A side used up is null, and least() would pass over a null.
            v_quantity := least(o.quantity - o.filled_quantity,
                                coalesce(CASE v_side WHEN 'buy' THEN q.bid_quantity ELSE q.ask_quantity END, 0));
            EXIT WHEN v_quantity = 0;
            q.sequence := q.sequence + 1;
            v_fills := v_fills + 1;
            PERFORM ledger_record_fill_v2(p_symbol, q.sequence, v_side, o.price, v_quantity, o.client_order_id, q.version,
                                          q.quote_epoch, q.quote_incarnation, q.quote_node, q.tick_size, q.lot_size);
            UPDATE exchange_order
               SET filled_quantity = filled_quantity + v_quantity,
                   filled_notional = filled_notional + v_quantity * price,
                   status = CASE WHEN filled_quantity + v_quantity = quantity THEN 'filled' ELSE 'partially_filled' END,
                   fills = fills || jsonb_build_object('fill_id', p_symbol || '-' || lpad(q.sequence::text, 12, '0'),
                                                       'price', trim_scale(price)::text,
                                                       'quantity', trim_scale(v_quantity)::text),
                   updated_at = clock_timestamp()
             WHERE id = o.id;
            IF v_side = 'buy' THEN
                q.bid_quantity := nullif(q.bid_quantity - v_quantity, 0);
            ELSE
                q.ask_quantity := nullif(q.ask_quantity - v_quantity, 0);
            END IF;
        END LOOP;
    END LOOP;
    UPDATE exchange_quote
       SET sequence = q.sequence,
           bid_price = CASE WHEN q.bid_quantity IS NOT NULL THEN bid_price END, bid_quantity = q.bid_quantity,
           ask_price = CASE WHEN q.ask_quantity IS NOT NULL THEN ask_price END, ask_quantity = q.ask_quantity
     WHERE symbol = p_symbol;
    PERFORM exchange_note_book_v1(p_symbol);
    RETURN v_fills;
END
$$;
