-- Sends many orders in one commit and answers when they are durable, their symbols free before that: see exchange_place_order_v3.
--
-- Waits p_lock_ms at most for each lock, as it keeps the other symbols' quote rows locked meanwhile: no quote, no switch of theirs
-- should wait for long because of a row that somebody keeps locked. Raises lock_not_available then, with nothing changed.
-- Orders, answers, locks and other errors: see exchange_submit_orders_v4.
CREATE PROCEDURE exchange_place_orders_v3(p_orders jsonb, p_lock_ms integer, INOUT p_answers json DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    v_unused text;  -- assigned to, an expression is evaluated without a statement of its own
BEGIN
    v_unused := pg_catalog.set_config('synchronous_commit', 'off', true);
    v_unused := pg_catalog.set_config('lock_timeout', p_lock_ms::text, true);
    p_answers := public.exchange_submit_orders_v4(p_orders);
    COMMIT;
    v_unused := pg_catalog.pg_logical_emit_message(true, '', '');
END
$$;
