-- Whether a partition of the quote versions holds some symbol's newest one: its live quote, or the withdrawal that ended it.
-- A version that is not the newest never becomes it again.
CREATE FUNCTION exchange_holds_current_quote_v1(p_partition regclass) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = public, pg_temp
AS $$
DECLARE
    v_holds boolean;
BEGIN
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM exchange_quote q JOIN %s v ON v.symbol = q.symbol AND v.version = q.version)', p_partition)
        INTO v_holds;
    RETURN v_holds;
END
$$;
