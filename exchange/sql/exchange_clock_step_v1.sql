-- The clock's step as it is now, 0 before it is started. Default of exchange_symbol.added_step.
--
-- Locks: the clock row, shared, until the caller's commit: the clock cannot advance past a symbol that is being added, so
-- every step after added_step brings the symbol's orders (I15).
CREATE FUNCTION exchange_clock_step_v1() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    v_step bigint;
BEGIN
    SELECT step INTO v_step FROM exchange_clock FOR SHARE;
    RETURN coalesce(v_step, 0);
END
$$;
