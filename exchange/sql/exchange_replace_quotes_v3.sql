-- Replaces the quotes of many symbols in one call, each judged by itself. Called by authority only, which names the deadline.
--
-- Locks: the quote rows, in symbol order; then position rows where a quote crosses resting orders. The locks are held
-- before anything is judged: a later grant waits for them, so nothing of an old epoch commits after its successor's grant.
-- Per symbol: accepted (with its version), or stale_epoch (a higher epoch has been granted), not_holder, expired (the clock
-- has passed p_deadline), quoting_disabled, off_tick (also off lot, half a side, NaN), crossed, over_limit (filled in full
-- it would take the position beyond its limit). A null side is a withdrawn side. Raises MM422 for malformed arrays.
-- The answers come as arrays in symbol order: one row costs less than a set of them, and the caller looks through it only
-- when something was refused. `crossing` names those that have traded with resting orders.
-- Keeps I4, I5, I8, I9, I12.
CREATE FUNCTION exchange_replace_quotes_v3(
    p_holder uuid, p_node text, p_deadline timestamptz, p_symbols text[], p_epochs bigint[],
    p_bid_prices numeric[], p_bid_quantities numeric[], p_ask_prices numeric[], p_ask_quantities numeric[],
    p_validity_ms integer,
    OUT symbols text[], OUT outcomes text[], OUT versions bigint[], OUT current_epochs bigint[], OUT crossing text[]
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_size integer := cardinality(p_symbols);
    v_symbol text;
BEGIN
    IF v_size IS NULL OR v_size > 10000
       OR (cardinality(p_epochs), cardinality(p_bid_prices), cardinality(p_bid_quantities), cardinality(p_ask_prices),
           cardinality(p_ask_quantities)) IS DISTINCT FROM (v_size, v_size, v_size, v_size, v_size)
       OR v_size <> (SELECT count(DISTINCT s) FROM unnest(p_symbols) s)
       OR p_validity_ms IS NULL OR p_validity_ms NOT BETWEEN 1 AND 86400000 THEN
        RAISE EXCEPTION 'arrays of one length up to 10000, symbols named once, validity of 1 ms to 1 day'
            USING ERRCODE = 'MM422';
    END IF;
    PERFORM 1 FROM exchange_quote WHERE symbol = ANY (p_symbols) ORDER BY symbol FOR UPDATE;

    WITH judged AS MATERIALIZED (
        SELECT i.*, q.epoch AS current_epoch, q.version + 1 AS next_version, q.sequence,
               CASE
                   WHEN q.symbol IS NULL THEN 'not_holder'
                   WHEN i.epoch < q.epoch THEN 'stale_epoch'
                   WHEN i.epoch IS DISTINCT FROM q.epoch OR q.holder IS DISTINCT FROM p_holder THEN 'not_holder'
                   WHEN p_deadline IS NULL OR clock_timestamp() >= p_deadline THEN 'expired'
                   WHEN NOT q.quoting_enabled THEN 'quoting_disabled'
                   WHEN (i.bid_price IS NULL) <> (i.bid_quantity IS NULL)
                     OR (i.ask_price IS NULL) <> (i.ask_quantity IS NULL)
                     OR NOT coalesce(i.bid_price > 0 AND i.bid_price % q.tick_size = 0
                                     AND i.bid_quantity > 0 AND i.bid_quantity % q.lot_size = 0, i.bid_price IS NULL)
                     OR NOT coalesce(i.ask_price > 0 AND i.ask_price % q.tick_size = 0
                                     AND i.ask_quantity > 0 AND i.ask_quantity % q.lot_size = 0, i.ask_price IS NULL)
                   THEN 'off_tick'
                   WHEN i.bid_price >= i.ask_price THEN 'crossed'
                   WHEN p.quantity + i.bid_quantity > s.position_limit
                     OR p.quantity - i.ask_quantity < -s.position_limit THEN 'over_limit'
                   ELSE 'accepted'
               END AS outcome
          FROM unnest(p_symbols, p_epochs, p_bid_prices, p_bid_quantities, p_ask_prices, p_ask_quantities)
                   AS i (symbol, epoch, bid_price, bid_quantity, ask_price, ask_quantity)
          LEFT JOIN exchange_quote q ON q.symbol = i.symbol
          LEFT JOIN exchange_symbol s ON s.name = i.symbol
          LEFT JOIN ledger_position p ON p.symbol = i.symbol
    ), replaced AS (
        UPDATE exchange_quote q
           SET version = j.next_version, bid_price = j.bid_price, bid_quantity = j.bid_quantity,
               ask_price = j.ask_price, ask_quantity = j.ask_quantity,
               quote_epoch = j.epoch, quote_incarnation = p_holder, quote_node = p_node,
               arrival = nextval('exchange_order_id_seq'), published_at = clock_timestamp(),
               valid_until = clock_timestamp() + p_validity_ms * interval '1 millisecond'
          FROM judged j WHERE q.symbol = j.symbol AND j.outcome = 'accepted'
        RETURNING q.*
    ), recorded AS (
        INSERT INTO exchange_quoteversion (symbol, version, bid_price, bid_quantity, ask_price, ask_quantity, epoch,
                                           incarnation, node, published_at, valid_until, after_sequence,
                                           tick_size, lot_size)
        SELECT r.symbol, r.version, r.bid_price, r.bid_quantity, r.ask_price, r.ask_quantity, r.quote_epoch,
               r.quote_incarnation, r.quote_node, r.published_at, r.valid_until, r.sequence, r.tick_size, r.lot_size
          FROM replaced r
    )
    SELECT array_agg(j.symbol ORDER BY j.symbol), array_agg(j.outcome ORDER BY j.symbol),
           array_agg(r.version ORDER BY j.symbol), array_agg(j.current_epoch ORDER BY j.symbol),
           array_agg(r.symbol ORDER BY r.symbol) FILTER (WHERE r.book_ask <= r.bid_price OR r.book_bid >= r.ask_price)
      INTO symbols, outcomes, versions, current_epochs, crossing
      FROM judged j LEFT JOIN replaced r ON r.symbol = j.symbol;

    FOREACH v_symbol IN ARRAY coalesce(crossing, '{}') LOOP
        PERFORM exchange_match_quote_v2(v_symbol);
    END LOOP;
END
$$;
