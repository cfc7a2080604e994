-- Notes that the external orders of p_step are all placed. Locks: the clock row. Returns the last such step.
-- Steps are noted one after another; noting one again changes nothing. Keeps I15.
CREATE FUNCTION exchange_orders_done_v1(p_step bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    UPDATE exchange_clock SET orders_step = p_step WHERE orders_step = p_step - 1 AND p_step <= step;
    RETURN (SELECT orders_step FROM exchange_clock);
END
$$;
