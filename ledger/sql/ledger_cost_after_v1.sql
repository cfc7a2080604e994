-- The cost of a position after a fill (average cost; see ledger_record_fills_v1), as an aggregate's step: over a window it follows
-- a symbol's fills one after another. State: {quantity, cost}, null at the first fill, which begins from the position given.
CREATE FUNCTION ledger_cost_after_v1(
    p_state numeric[], p_quantity numeric, p_cost numeric, p_signed numeric, p_price numeric
) RETURNS numeric[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = public, pg_temp
AS $$
DECLARE
    v_quantity numeric := coalesce(p_state[1], p_quantity);
    v_cost numeric := coalesce(p_state[2], p_cost);
BEGIN
    RETURN ARRAY[v_quantity + p_signed,
                 CASE WHEN v_quantity * p_signed >= 0 THEN v_cost + p_signed * p_price
                      WHEN abs(v_quantity) <= abs(p_signed) THEN (v_quantity + p_signed) * p_price
                      ELSE v_cost - round(v_cost * abs(p_signed) / abs(v_quantity), 10) END];
END
$$;
