-- Records many fills and moves their positions, in one statement: what ledger_record_fill_v2 does for each of them.
--
-- Parallel arrays; quantities are ours, bought above zero and sold below. `p_filled_at` is when the caller matched them, under its
-- lock. Locks: the position rows, in symbol order. The caller holds the quote rows, which come before them in the lock order.
-- Returns how many were recorded: fewer than given when some were already there. Raises MM409, MM410 and MM404 as
-- ledger_record_fill_v2 does. Keeps I6 and I7.
CREATE FUNCTION ledger_record_fills_v1(
    p_filled_at timestamptz, p_symbols text[], p_sequences bigint[], p_signed_quantities numeric[], p_prices numeric[],
    p_client_order_ids text[], p_quote_versions bigint[], p_epochs bigint[], p_incarnations uuid[], p_nodes text[],
    p_tick_sizes numeric[], p_lot_sizes numeric[]
) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    v_recorded integer := 0;
BEGIN
    PERFORM 1 FROM ledger_position WHERE symbol = ANY (p_symbols) ORDER BY symbol FOR NO KEY UPDATE;
    -- Each position as its fills move it, one after another. Nothing is written unless every fill is the next of its symbol.
    WITH moved AS MATERIALIZED (
        SELECT f.number, f.symbol, f.sequence, p.quantity + sum(f.signed) OVER w AS quantity_after,
               p.cash - sum(f.signed * f.price) OVER w AS cash_after,
               (ledger_cost(p.quantity, p.cost, f.signed, f.price) OVER w)[2] AS cost_after,
               f.sequence = p.version + row_number() OVER w AS is_next
          FROM unnest(p_symbols, p_sequences, p_signed_quantities, p_prices) WITH ORDINALITY
                   AS f (symbol, sequence, signed, price, number)
          JOIN ledger_position p ON p.symbol = f.symbol
        WINDOW w AS (PARTITION BY f.symbol ORDER BY f.sequence)
    ), sound AS MATERIALIZED (
        SELECT bool_and(is_next) AND count(*) = cardinality(p_symbols) AS all_next FROM moved
    ), position AS (
        UPDATE ledger_position p
           SET quantity = m.quantity_after, cost = m.cost_after, cash = m.cash_after, version = m.sequence,
               updated_at = p_filled_at
          FROM moved m JOIN (SELECT symbol, max(sequence) AS sequence FROM moved GROUP BY symbol) last USING (symbol, sequence)
         WHERE p.symbol = m.symbol AND (SELECT all_next FROM sound)
    )
    INSERT INTO ledger_fill (fill_id, symbol, sequence, side, price, quantity, client_order_id, quote_version, epoch, incarnation,
                             node, filled_at, tick_size, lot_size, quantity_after, cost_after, cash_after)
    SELECT f.symbol || '-' || lpad(f.sequence::text, 12, '0'), f.symbol, f.sequence,
           CASE WHEN f.signed > 0 THEN 'buy' ELSE 'sell' END, f.price, abs(f.signed), f.client_order_id, f.quote_version, f.epoch,
           f.incarnation, f.node, p_filled_at, f.tick_size, f.lot_size, m.quantity_after, m.cost_after, m.cash_after
      FROM unnest(p_symbols, p_sequences, p_signed_quantities, p_prices, p_client_order_ids, p_quote_versions, p_epochs,
                  p_incarnations, p_nodes, p_tick_sizes, p_lot_sizes) WITH ORDINALITY
               AS f (symbol, sequence, signed, price, client_order_id, quote_version, epoch, incarnation, node, tick_size, lot_size,
                     number)
      JOIN moved m ON m.number = f.number
     WHERE (SELECT all_next FROM sound)
     ORDER BY f.number;
    GET DIAGNOSTICS v_recorded = ROW_COUNT;
    IF v_recorded = cardinality(p_symbols) THEN
        RETURN v_recorded;
    END IF;

    -- Known ones and gaps are judged one by one.
    SELECT count(*) FILTER (WHERE ledger_record_fill_v2(
               symbol, sequence, CASE WHEN signed > 0 THEN 'buy' ELSE 'sell' END, price, abs(signed), client_order_id,
               quote_version, epoch, incarnation, node, tick_size, lot_size) = 'recorded')
      INTO v_recorded
      FROM (SELECT * FROM unnest(p_symbols, p_sequences, p_signed_quantities, p_prices, p_client_order_ids, p_quote_versions,
                                 p_epochs, p_incarnations, p_nodes, p_tick_sizes, p_lot_sizes)
                              AS f (symbol, sequence, signed, price, client_order_id, quote_version, epoch, incarnation, node,
                                    tick_size, lot_size)
             ORDER BY symbol, sequence) f;
    RETURN v_recorded;
END
$$;
