-- An order as its owner is told of it (DESIGN, section 8): decimals as strings, no trailing zeros. Takes no lock.
CREATE FUNCTION exchange_order_answer_v1(p_order exchange_order) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = public, pg_temp
AS $$
    SELECT jsonb_build_object(
        'client_order_id', p_order.client_order_id,
        'status', p_order.status,
        'filled_quantity', trim_scale(p_order.filled_quantity)::text,
        'remaining_quantity', trim_scale(p_order.quantity - p_order.filled_quantity)::text,
        'average_price', CASE WHEN p_order.filled_quantity > 0
                              THEN trim_scale(round(p_order.filled_notional / p_order.filled_quantity, 10))::text END,
        'fills', p_order.fills,
        'reject_code', p_order.reject_code)
$$;
