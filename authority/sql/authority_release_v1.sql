-- Gives back the leases of these symbols that the incarnation holds: planned handover.
--
-- Locks: the lease rows in symbol order; the quote rows in symbol order. The tenures end now, as drained while an operator
-- drains the node and as released otherwise; from this commit on its writes are refused; the live quotes stay until the
-- next holder's supersede them or they lapse. Returns the number released. Rings mm_authority.
CREATE FUNCTION authority_release_v1(p_incarnation uuid, p_symbols text[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    v_symbols text[];
    v_node text;
    v_reason text;
BEGIN
    SELECT i.node, CASE WHEN n.draining THEN 'drained' ELSE 'released' END INTO v_node, v_reason
      FROM authority_incarnation i JOIN authority_node n ON n.name = i.node WHERE i.id = p_incarnation;
    SELECT array_agg(l.symbol) INTO v_symbols
      FROM (SELECT symbol FROM authority_lease WHERE symbol = ANY (p_symbols) AND incarnation = p_incarnation
             ORDER BY symbol FOR UPDATE) l;
    IF v_symbols IS NULL THEN
        RETURN 0;
    END IF;
    UPDATE authority_lease SET incarnation = NULL, node = NULL, released_at = greatest(granted_at, clock_timestamp())
     WHERE symbol = ANY (v_symbols);
    PERFORM exchange_drop_fence_v1(v_symbols, p_incarnation, NULL);
    -- The tenure ends after the fence is down: what was in flight has then committed within it.
    UPDATE authority_tenure t SET ended_at = greatest(t.granted_at, clock_timestamp()), reason = v_reason
     WHERE t.incarnation = p_incarnation AND t.ended_at IS NULL AND t.symbol = ANY (v_symbols);
    UPDATE authority_lease l SET released_at = greatest(l.released_at, t.ended_at)
      FROM authority_tenure t WHERE t.symbol = l.symbol AND t.epoch = l.epoch AND l.symbol = ANY (v_symbols);
    INSERT INTO journal_activity (kind, symbol, node, data)
    SELECT 'released', l.symbol, v_node, jsonb_build_object('epoch', l.epoch, 'reason', v_reason)
      FROM authority_lease l WHERE l.symbol = ANY (v_symbols);
    PERFORM pg_notify('mm_authority', '');
    RETURN cardinality(v_symbols);
END
$$;
