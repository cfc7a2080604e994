-- Gives back the leases of these symbols that the incarnation holds: planned handover.
--
-- Locks: the lease rows in symbol order; the quote rows in symbol order. The tenures end now, as drained while an operator
-- drains the node and as released otherwise; from this commit on its writes are refused; the live quotes stay until the
-- next holder's supersede them or they lapse. What somebody else keeps locked stays the incarnation's, until it is asked again
-- (without p_wait, which is to wait for such). Returns those released. Rings mm_authority for those who may take them.
CREATE FUNCTION authority_release_v3(p_incarnation uuid, p_symbols text[], p_wait boolean DEFAULT true) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    v_symbols text[];
    v_node text;
    v_reason text;
    v_at timestamptz;
BEGIN
    SELECT i.node, CASE WHEN n.draining THEN 'drained' ELSE 'released' END INTO v_node, v_reason
      FROM authority_incarnation i JOIN authority_node n ON n.name = i.node WHERE i.id = p_incarnation;
    v_symbols := CASE WHEN p_incarnation IS NOT NULL THEN authority_lock_leases_v1(p_symbols, p_incarnation, p_wait) ELSE '{}' END;
    IF v_symbols = '{}' THEN
        RETURN v_symbols;
    END IF;
    PERFORM exchange_drop_fence_v1(v_symbols, p_incarnation, NULL);
    -- The tenures end after the fence is down: what was in flight has then committed within them.
    v_at := clock_timestamp();
    UPDATE authority_lease SET incarnation = NULL, node = NULL, released_at = greatest(granted_at, v_at)
     WHERE symbol = ANY (v_symbols);
    UPDATE authority_tenure SET ended_at = greatest(granted_at, v_at), reason = v_reason
     WHERE symbol = ANY (v_symbols) AND ended_at IS NULL AND incarnation = p_incarnation;
    INSERT INTO journal_activity (kind, symbol, node, data)
    SELECT 'released', l.symbol, v_node, jsonb_build_object('epoch', l.epoch, 'reason', v_reason)
      FROM authority_lease l WHERE l.symbol = ANY (v_symbols);
    PERFORM authority_ring_v2(v_symbols);
    RETURN v_symbols;
END
$$;
