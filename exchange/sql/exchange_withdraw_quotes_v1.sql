-- Withdraws the live quotes of these symbols and records each withdrawal as a version.
--
-- Locks: the quote rows, which the caller has already locked in symbol order. Internal: called by the functions below.
-- Returns how many quotes were withdrawn. Keeps I12: from this commit on nothing can be filled against them.
CREATE FUNCTION exchange_withdraw_quotes_v1(p_symbols text[], p_reason text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    v_count integer;
BEGIN
    WITH live AS (
        SELECT symbol, version + 1 AS version, quote_epoch, quote_incarnation, quote_node, sequence, tick_size,
               lot_size
          FROM exchange_quote WHERE symbol = ANY (p_symbols) AND published_at IS NOT NULL
    ), cleared AS (
        UPDATE exchange_quote q
           SET version = live.version, bid_price = NULL, bid_quantity = NULL, ask_price = NULL, ask_quantity = NULL,
               quote_epoch = NULL, quote_incarnation = NULL, quote_node = NULL, arrival = NULL,
               published_at = NULL, valid_until = NULL
          FROM live WHERE q.symbol = live.symbol
        RETURNING q.symbol
    ), recorded AS (
        INSERT INTO exchange_quoteversion (symbol, version, epoch, incarnation, node, published_at, after_sequence,
                                           withdrawn_reason, tick_size, lot_size)
        SELECT live.symbol, live.version, live.quote_epoch, live.quote_incarnation, live.quote_node, clock_timestamp(),
               live.sequence, p_reason, live.tick_size, live.lot_size
          FROM live JOIN cleared USING (symbol)
    ), told AS (
        INSERT INTO journal_activity (kind, symbol, node, data)
        SELECT 'quote_withdrawn', live.symbol, live.quote_node,
               jsonb_build_object('reason', p_reason, 'epoch', live.quote_epoch, 'version', live.version)
          FROM live JOIN cleared USING (symbol)
    )
    SELECT count(*) INTO v_count FROM cleared;
    RETURN v_count;
END
$$;
