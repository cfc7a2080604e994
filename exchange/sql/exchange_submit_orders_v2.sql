-- Many orders in one commit: a jsonb array of orders as POST orders takes them (with "step" for generated ones), or of
-- {"cancel": client_order_id}. Taken one after another in the array's order, each with its own answer.
--
-- Locks: every quote row concerned, in symbol order, before the first order. Returns the array of answers.
-- Raises MM422 for anything but an array of at most 1000.
CREATE FUNCTION exchange_submit_orders_v2(p_orders jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    v_order jsonb;
    v_answers jsonb[] := '{}';
BEGIN
    IF jsonb_typeof(p_orders) IS DISTINCT FROM 'array' OR jsonb_array_length(p_orders) > 1000 THEN
        RAISE EXCEPTION 'an array of at most 1000 orders' USING ERRCODE = 'MM422';
    END IF;
    PERFORM 1 FROM exchange_quote
      WHERE symbol IN (
          SELECT i ->> 'symbol' FROM jsonb_array_elements(p_orders) i WHERE i ? 'symbol'
          UNION
          SELECT o.symbol FROM jsonb_array_elements(p_orders) i
            JOIN exchange_order o ON o.client_order_id = i ->> 'cancel' WHERE i ? 'cancel')
      ORDER BY symbol FOR UPDATE;
    FOR v_order IN SELECT * FROM jsonb_array_elements(p_orders) LOOP
        v_answers := v_answers || CASE
            WHEN v_order ? 'cancel' THEN exchange_cancel_order_v2(v_order ->> 'cancel')
            ELSE exchange_submit_order_v2(
                v_order ->> 'client_order_id', v_order ->> 'symbol', v_order ->> 'side', v_order ->> 'type',
                v_order ->> 'time_in_force', (v_order ->> 'price')::numeric, (v_order ->> 'quantity')::numeric,
                (v_order ->> 'step')::bigint)
        END;
    END LOOP;
    RETURN to_jsonb(v_answers);
END
$$;
