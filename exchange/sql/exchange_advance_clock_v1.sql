-- Advances the exchange's clock to p_step and sets that step's reference prices, once, whoever calls it and however often.
--
-- Locks: the clock row; then the price rows. Nothing happens unless p_step is the next step and is due (half a tick early
-- at most, so that a caller's jitter does not skip a beat; never more than one tick behind, so that an outage is not
-- replayed). Returns the step that the clock shows. Rings mm_market.
CREATE FUNCTION exchange_advance_clock_v1(p_step bigint, p_symbols text[], p_prices numeric[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    c exchange_clock;
    v_tick interval;
BEGIN
    SELECT * INTO c FROM exchange_clock FOR UPDATE;
    v_tick := c.tick_ms * interval '1 millisecond';
    IF p_step <> c.step + 1 OR clock_timestamp() < c.due_at - v_tick / 2 THEN
        RETURN c.step;
    END IF;
    UPDATE exchange_clock SET step = p_step, due_at = greatest(c.due_at, clock_timestamp() - v_tick) + v_tick;
    UPDATE exchange_price p SET price = i.price, step = p_step, at = clock_timestamp()
      FROM (SELECT * FROM unnest(p_symbols, p_prices) ORDER BY 1) AS i (symbol, price) WHERE p.symbol = i.symbol;
    PERFORM pg_notify('mm_market', '');
    RETURN p_step;
END
$$;
