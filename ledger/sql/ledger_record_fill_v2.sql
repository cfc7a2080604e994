-- Records one fill and moves its position, once, however often it is called with the same fill.
--
-- Locks: the symbol's position row. The caller holds the symbol's quote row, which comes before it in the lock order.
-- Returns 'recorded', or 'duplicate' when exactly this fill is already there (nothing changes).
-- Raises MM409 when another fill is known under that id, MM410 when the sequence would leave a gap.
-- Keeps I6 (positions add up) and I7 (fills once). The fill is its own entry in the activity (view ledger_activity).
--
-- Average cost: a fill on the position's side adds price x quantity to its cost; one against it takes away the cost
-- in proportion, rounded to 10 decimals (all of it when it closes the position), and what is left of it opens the
-- other side at its own price. Realised P&L is cash + cost.
CREATE FUNCTION ledger_record_fill_v2(
    p_symbol text, p_sequence bigint, p_side text, p_price numeric, p_quantity numeric, p_client_order_id text,
    p_quote_version bigint, p_epoch bigint, p_incarnation uuid, p_node text, p_tick_size numeric, p_lot_size numeric
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    v_signed numeric := p_quantity;
    v_after record;
    v_known ledger_fill;
    v_version bigint;
BEGIN
    IF p_side = 'sell' THEN
        v_signed := -p_quantity;
    END IF;
    -- The next fill in sequence: the position as it was decides all that is written.
    UPDATE ledger_position
       SET quantity = quantity + v_signed,
           cash = cash - v_signed * p_price,
           cost = CASE WHEN quantity * v_signed >= 0 THEN cost + v_signed * p_price
                       WHEN abs(quantity) <= p_quantity THEN (quantity + v_signed) * p_price
                       ELSE cost - round(cost * p_quantity / abs(quantity), 10) END,
           version = p_sequence,
           updated_at = clock_timestamp()
     WHERE symbol = p_symbol AND version = p_sequence - 1
    RETURNING quantity, cost, cash, updated_at INTO v_after;
    IF FOUND THEN
        INSERT INTO ledger_fill (fill_id, symbol, sequence, side, price, quantity, client_order_id, quote_version, epoch,
                                 incarnation, node, filled_at, tick_size, lot_size, quantity_after, cost_after, cash_after)
        VALUES (p_symbol || '-' || lpad(p_sequence::text, 12, '0'), p_symbol, p_sequence, p_side, p_price, p_quantity,
                p_client_order_id, p_quote_version, p_epoch, p_incarnation, p_node, v_after.updated_at, p_tick_size,
                p_lot_size, v_after.quantity, v_after.cost, v_after.cash);
        RETURN 'recorded';
    END IF;

    SELECT version INTO v_version FROM ledger_position WHERE symbol = p_symbol;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no position for symbol %', p_symbol USING ERRCODE = 'MM404';
    ELSIF p_sequence > v_version THEN
        RAISE EXCEPTION 'fill %-% would leave a gap after %', p_symbol, p_sequence, v_version USING ERRCODE = 'MM410';
    END IF;
    SELECT * INTO v_known FROM ledger_fill WHERE fill_id = p_symbol || '-' || lpad(p_sequence::text, 12, '0');
    IF (v_known.side, v_known.price, v_known.quantity, v_known.client_order_id, v_known.quote_version, v_known.epoch,
        v_known.incarnation)
       IS DISTINCT FROM
       (p_side, p_price, p_quantity, p_client_order_id, p_quote_version, p_epoch, p_incarnation) THEN
        RAISE EXCEPTION 'fill %-% is already recorded with other contents', p_symbol, p_sequence USING ERRCODE = 'MM409';
    END IF;
    RETURN 'duplicate';
END
$$;
