-- The present state of an order, or null when there is none by that id. Takes no lock.
CREATE FUNCTION exchange_order_state_v1(p_client_order_id text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    SELECT exchange_order_answer_v1(o) FROM exchange_order o WHERE client_order_id = p_client_order_id
$$;
