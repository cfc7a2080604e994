-- Starts the exchange's clock at step 0, unless it is already running. Returns the seed that is in force.
CREATE FUNCTION exchange_start_clock_v1(p_seed bigint, p_tick_ms integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    INSERT INTO exchange_clock (id, seed, tick_ms) VALUES (1, p_seed, p_tick_ms) ON CONFLICT (id) DO NOTHING;
    UPDATE exchange_clock SET tick_ms = p_tick_ms WHERE tick_ms <> p_tick_ms;
    RETURN (SELECT seed FROM exchange_clock);
END
$$;
