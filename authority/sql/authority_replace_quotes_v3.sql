-- A node replaces the quotes of many symbols in one call, one round trip, one commit. Each symbol is answered by itself.
--
-- Locks: the quote rows, in symbol order; then position rows where a quote crosses resting orders. Right and deadline are
-- judged under those locks: the fence in the quote row names the holder and the epoch, and the deadline is the
-- incarnation's expires_at as it stood before (a renewal since then only makes it later; an end since then takes the fence
-- down, and waits for these locks to do it).
-- Answers and errors: see exchange_replace_quotes_v3. Refusals for want of the right are recorded for `explain`.
CREATE FUNCTION authority_replace_quotes_v3(
    p_incarnation uuid, p_symbols text[], p_epochs bigint[], p_bid_prices numeric[], p_bid_quantities numeric[],
    p_ask_prices numeric[], p_ask_quantities numeric[], p_validity_ms integer
) RETURNS TABLE (symbol text, outcome text, version bigint, traded boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    me authority_incarnation;
    r record;
BEGIN
    SELECT * INTO me FROM authority_incarnation WHERE id = p_incarnation;
    r := exchange_replace_quotes_v3(
        me.id, me.node, CASE WHEN me.ended_at IS NULL THEN me.expires_at END, p_symbols, p_epochs, p_bid_prices,
        p_bid_quantities, p_ask_prices, p_ask_quantities, p_validity_ms);
    IF r.outcomes && ARRAY['not_holder', 'stale_epoch', 'expired'] AND me.id IS NOT NULL THEN
        WITH refused AS (
            INSERT INTO authority_refusal (symbol, node, incarnation, epoch, reason, current_epoch)
            SELECT a.symbol, me.node, p_incarnation, i.epoch, a.outcome, a.current_epoch
              FROM unnest(r.symbols, r.outcomes, r.current_epochs) AS a (symbol, outcome, current_epoch)
              JOIN unnest(p_symbols, p_epochs) AS i (symbol, epoch) ON i.symbol = a.symbol
             WHERE a.outcome IN ('not_holder', 'stale_epoch', 'expired') AND i.epoch IS NOT NULL
               AND a.current_epoch IS NOT NULL
            RETURNING symbol, epoch, reason
        )
        INSERT INTO journal_activity (kind, symbol, node, data)
        SELECT 'refused', f.symbol, me.node,
               jsonb_build_object('epoch', f.epoch, 'reason', f.reason, 'incarnation', p_incarnation)
          FROM refused f;
    END IF;
    RETURN QUERY
        SELECT i.symbol, i.outcome, i.version, i.symbol = ANY (coalesce(r.crossing, '{}'))
          FROM unnest(r.symbols, r.outcomes, r.versions) AS i (symbol, outcome, version);
END
$$;
