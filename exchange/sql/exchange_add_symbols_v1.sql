-- Adds the symbols that are missing, each with its flat position, its reference price and its empty quote. Idempotent.
--
-- Locks: nothing that exists. p_symbols is a jsonb array of objects with exchange_symbol's columns.
-- Returns how many were added. What is already there is left as it is.
CREATE FUNCTION exchange_add_symbols_v1(p_symbols jsonb) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    v_added text[];
BEGIN
    WITH added AS (
        INSERT INTO exchange_symbol (name, tick_size, lot_size, seed_price, volatility_bps, half_spread_ticks, skew_ticks,
                                     quote_size, position_limit, orders_per_step)
        SELECT name, tick_size, lot_size, seed_price, volatility_bps, half_spread_ticks, skew_ticks, quote_size,
               position_limit, orders_per_step
          FROM jsonb_populate_recordset(NULL::exchange_symbol, p_symbols) ORDER BY name
        ON CONFLICT (name) DO NOTHING RETURNING name
    )
    SELECT array_agg(name) INTO v_added FROM added;
    PERFORM ledger_open_position_v1(v_added);
    INSERT INTO exchange_price (symbol, price)
    SELECT name, seed_price FROM exchange_symbol WHERE name = ANY (v_added);
    INSERT INTO exchange_quote (symbol, tick_size, lot_size)
    SELECT name, tick_size, lot_size FROM exchange_symbol WHERE name = ANY (v_added);
    RETURN coalesce(cardinality(v_added), 0);
END
$$;
