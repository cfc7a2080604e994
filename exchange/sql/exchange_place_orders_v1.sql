-- Sends many orders in one commit and answers when they are durable, their symbols free before that: see exchange_place_order_v1.
-- Orders, answers, locks and errors: see exchange_submit_orders_v3.
CREATE PROCEDURE exchange_place_orders_v1(p_orders jsonb, INOUT p_answers json DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    v_unused text;  -- assigned to, an expression is evaluated without a statement of its own
BEGIN
    v_unused := pg_catalog.set_config('synchronous_commit', 'off', true);
    p_answers := public.exchange_submit_orders_v3(p_orders);
    COMMIT;
    v_unused := pg_catalog.pg_logical_emit_message(true, '', '');
END
$$;
