-- CHECK of exchange_order: the rules between an order's columns. True, or raises check_violation under the broken rule's name:
-- order_kind (a limit order has a price, a market order has none), order_on_grid (on tick and on lot), i8_no_overfill,
-- order_status (filled means filled in full, rejected has a code).
-- In one function because a CHECK's own text is parsed again by every statement that writes the table (decision 4).
CREATE FUNCTION exchange_order_holds_v1(o exchange_order) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    v_rule text;
BEGIN
    IF (CASE WHEN o.price IS NULL THEN o.type = 'market' ELSE o.type = 'limit' AND o.price % o.tick_size = 0 END)
       AND o.quantity % o.lot_size = 0
       AND (CASE o.status WHEN 'filled' THEN o.filled_quantity = o.quantity ELSE o.filled_quantity < o.quantity END)
       AND (o.status = 'rejected') = (o.reject_code IS NOT NULL) THEN
        RETURN true;
    END IF;
    v_rule := CASE
        WHEN (o.type = 'market') <> (o.price IS NULL) THEN 'order_kind'
        WHEN o.filled_quantity > o.quantity THEN 'i8_no_overfill'
        WHEN o.quantity % o.lot_size = 0 AND coalesce(o.price % o.tick_size, 0) = 0 THEN 'order_status'
        ELSE 'order_on_grid'
    END;
    RAISE check_violation USING
        MESSAGE = format('order %s breaks %s', o.client_order_id, v_rule), CONSTRAINT = v_rule, TABLE = 'exchange_order';
END
$$;
