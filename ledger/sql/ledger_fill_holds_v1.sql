-- CHECK of ledger_fill: the rules between a fill's columns. True, or raises check_violation under the broken rule's name:
-- i7_fills_once (the id is symbol and sequence), i9_fair_fills (on tick and on lot), i6_positions_add_up (the position that
-- it left is open on the side of its cost, and costs nothing when flat).
-- In one function because a CHECK's own text is parsed again by every statement that writes the table (decision 4).
CREATE FUNCTION ledger_fill_holds_v1(f ledger_fill) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    v_rule text;
BEGIN
    IF f.fill_id = f.symbol || '-' || lpad(f.sequence::text, 12, '0')
       AND f.price % f.tick_size = 0 AND f.quantity % f.lot_size = 0
       AND sign(f.quantity_after) = sign(f.cost_after) THEN
        RETURN true;
    END IF;
    v_rule := CASE
        WHEN f.fill_id IS DISTINCT FROM f.symbol || '-' || lpad(f.sequence::text, 12, '0') THEN 'i7_fills_once'
        WHEN f.price % f.tick_size = 0 AND f.quantity % f.lot_size = 0 THEN 'i6_positions_add_up'
        ELSE 'i9_fair_fills'
    END;
    RAISE check_violation USING
        MESSAGE = format('fill %s breaks %s', f.fill_id, v_rule), CONSTRAINT = v_rule, TABLE = 'ledger_fill';
END
$$;
