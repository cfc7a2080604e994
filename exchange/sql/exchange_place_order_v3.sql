-- Sends one order and answers when it is durable, its symbol free for the next one before that.
--
-- The work commits without waiting for the disk, which frees its locks, and then a commit of its own that holds none waits: the log
-- is written in order, so with the second the first is on disk too. A symbol's orders so share one wait for the disk in place of
-- taking it in turns. Others may see a fill before it is durable; a crash then takes back together all that came after it, and what
-- was answered is not among it. An error between the two commits leaves an order that was not answered: sent again, it is.
--
-- Between the two the client is told of fills by a NOTICE, which is sent at once (MM100): it can have the symbol's holder woken in the
-- meantime. Not from here: NOTIFY in every order would wake every listener for each.
--
-- A procedure that commits may have neither SECURITY DEFINER nor SET, and can't be called inside a transaction. So it has its
-- caller's rights, and names every schema. Locks, answer and errors: see exchange_submit_order_v3.
CREATE PROCEDURE exchange_place_order_v3(
    p_client_order_id text, p_symbol text, p_side text, p_type text, p_time_in_force text, p_price numeric,
    p_quantity numeric, INOUT p_answer jsonb DEFAULT NULL
)
LANGUAGE plpgsql
AS $$
DECLARE
    v_unused text;  -- assigned to, an expression is evaluated without a statement of its own
    v_is_filled boolean;
BEGIN
    v_unused := pg_catalog.set_config('synchronous_commit', 'off', true);
    p_answer := public.exchange_submit_order_v3(
        p_client_order_id, p_symbol, p_side, p_type, p_time_in_force, p_price, p_quantity);
    v_is_filled := (p_answer OPERATOR(pg_catalog.#>) '{fills,0}') IS NOT NULL;
    COMMIT;
    IF v_is_filled THEN
        RAISE NOTICE USING ERRCODE = 'MM100', MESSAGE = 'filled';
    END IF;
    v_unused := pg_catalog.pg_logical_emit_message(true, '', '');
END
$$;
