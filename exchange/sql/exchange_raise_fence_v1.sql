-- Raises the fence of these symbols to new epochs held by one incarnation. Called by authority in the grant's transaction.
--
-- Locks: the quote rows, in symbol order; so it waits for a quote or an order in flight, and whatever an older epoch
-- wrote has committed before the grant does (I4). The live quote stays until its successor's first one.
-- Raises MM409 unless every epoch rises.
CREATE FUNCTION exchange_raise_fence_v1(p_symbols text[], p_epochs bigint[], p_holder uuid, p_node text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    v_raised integer;
BEGIN
    PERFORM 1 FROM exchange_quote WHERE symbol = ANY (p_symbols) ORDER BY symbol FOR UPDATE;
    UPDATE exchange_quote q
       SET epoch = i.epoch, holder = p_holder, node = p_node
      FROM unnest(p_symbols, p_epochs) AS i (symbol, epoch)
     WHERE q.symbol = i.symbol AND q.epoch < i.epoch;
    GET DIAGNOSTICS v_raised = ROW_COUNT;
    IF v_raised <> cardinality(p_symbols) THEN
        RAISE EXCEPTION 'only % of % epochs would rise', v_raised, cardinality(p_symbols) USING ERRCODE = 'MM409';
    END IF;
END
$$;
