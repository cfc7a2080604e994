-- Ends an incarnation and everything it held. Internal: called by register, sweep and leave, which hold its row.
--
-- Locks: the incarnation row (held by the caller); its lease rows in symbol order; their quote rows in symbol order.
-- Tenures end at p_ended_at with p_reason. When the holder was lost (expired, session_lost) its live quotes are withdrawn
-- in the same commit; after a planned end they stay until superseded or lapsed. Rings mm_authority.
-- Returns how many symbols it held.
CREATE FUNCTION authority_end_incarnation_v1(p_incarnation uuid, p_reason text, p_ended_at timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    v_node text;
    v_symbols text[];
BEGIN
    UPDATE authority_incarnation SET ended_at = p_ended_at, end_reason = p_reason
     WHERE id = p_incarnation AND ended_at IS NULL RETURNING node INTO v_node;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    SELECT array_agg(l.symbol) INTO v_symbols
      FROM (SELECT symbol FROM authority_lease WHERE incarnation = p_incarnation ORDER BY symbol FOR UPDATE) l;
    UPDATE authority_lease
       SET incarnation = NULL, node = NULL, released_at = greatest(granted_at, p_ended_at) WHERE symbol = ANY (v_symbols);
    UPDATE authority_tenure SET ended_at = greatest(granted_at, p_ended_at), reason = p_reason
     WHERE incarnation = p_incarnation AND ended_at IS NULL;
    PERFORM exchange_drop_fence_v1(v_symbols, p_incarnation,
                                   CASE WHEN p_reason IN ('expired', 'session_lost') THEN p_reason END);
    INSERT INTO journal_activity (kind, node, data)
    VALUES ('ended', v_node, jsonb_build_object('incarnation', p_incarnation, 'reason', p_reason,
                                                'symbols', coalesce(to_jsonb(v_symbols), '[]')));
    PERFORM pg_notify('mm_authority', '');
    RETURN coalesce(cardinality(v_symbols), 0);
END
$$;
