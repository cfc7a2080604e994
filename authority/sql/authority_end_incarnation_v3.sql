-- Ends an incarnation and what it held, at most p_most symbols a call, in symbol order. Internal: called by register, sweep and
-- leave, which hold its row.
--
-- Locks: the incarnation row (held by the caller); lease rows in symbol order; their quote rows in symbol order. A symbol of which
-- somebody else keeps either locked is left for the next call. Of a lost one only the first call waits for such a symbol.
-- While it holds some still, its end has only begun: `ending` says why and `ending_at` since when, it is no member any more and
-- is granted nothing, and a lost one (expired, session_lost) is expired from that moment on. So nothing depends on how long the
-- rest takes, and no statement takes longer the more it held. Call it again until it is done.
-- Tenures end at p_ended_at with p_reason; with null, at the moment after the fence is down. When the holder was lost its live
-- quotes are withdrawn in the same commit; after a planned end they stay until superseded or lapsed.
-- Rings mm_authority. Returns how many symbols it took away, and whether that was all. Keeps I1, I3, I5.
CREATE FUNCTION authority_end_incarnation_v3(
    p_incarnation uuid, p_reason text, p_ended_at timestamptz, p_most integer, OUT symbols integer, OUT done boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    i authority_incarnation;
    v_symbols text[];
    v_lost boolean := p_reason IN ('expired', 'session_lost');
    v_begins boolean;
    v_at timestamptz;
BEGIN
    IF p_most IS NULL OR p_most < 1 THEN
        RAISE EXCEPTION 'at least one symbol at a time' USING ERRCODE = 'MM422';
    END IF;
    symbols := 0;
    done := true;
    SELECT * INTO i FROM authority_incarnation WHERE id = p_incarnation AND ended_at IS NULL;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_begins := i.ending IS DISTINCT FROM p_reason;
    -- It is granted nothing while its row is held, so that what it holds can only become less.
    IF v_begins THEN
        v_symbols := ARRAY(SELECT symbol FROM authority_lease WHERE incarnation = p_incarnation
                            ORDER BY symbol LIMIT p_most);
    ELSE
        v_symbols := ARRAY(SELECT symbol FROM authority_lease WHERE incarnation = p_incarnation
                            ORDER BY symbol LIMIT p_most FOR UPDATE SKIP LOCKED);
    END IF;
    v_symbols := authority_lock_leases_v1(v_symbols, p_incarnation, v_begins OR NOT v_lost);
    symbols := cardinality(v_symbols);
    done := NOT EXISTS (SELECT FROM authority_lease WHERE incarnation = p_incarnation AND symbol <> ALL (v_symbols));
    IF symbols = 0 AND NOT done AND NOT v_begins THEN
        RETURN;  -- all that is left is locked: nothing has changed, and nobody need hear of it
    END IF;
    PERFORM exchange_drop_fence_v1(v_symbols, p_incarnation, CASE WHEN v_lost THEN p_reason END);
    -- The end comes after the fence is down: what was in flight has then committed before it.
    v_at := coalesce(p_ended_at, clock_timestamp());
    UPDATE authority_lease SET incarnation = NULL, node = NULL, released_at = greatest(granted_at, v_at)
     WHERE symbol = ANY (v_symbols);
    UPDATE authority_tenure SET ended_at = greatest(granted_at, v_at), reason = p_reason
     WHERE symbol = ANY (v_symbols) AND ended_at IS NULL AND incarnation = p_incarnation;
    IF done THEN
        UPDATE authority_incarnation SET ended_at = v_at, end_reason = p_reason WHERE id = p_incarnation;
    ELSIF v_begins THEN
        UPDATE authority_incarnation
           SET ending = p_reason, ending_at = v_at,
               expires_at = CASE WHEN v_lost THEN least(expires_at, v_at) ELSE expires_at END
         WHERE id = p_incarnation;
    END IF;
    INSERT INTO journal_activity (kind, node, data)
    VALUES ('ended', i.node, jsonb_build_object('incarnation', p_incarnation, 'reason', p_reason, 'done', done,
                                                'symbols', to_jsonb(v_symbols)));
    IF done OR v_begins THEN
        PERFORM pg_notify('mm_authority', '');  -- the members have changed
    ELSE
        PERFORM authority_ring_v2(v_symbols);
    END IF;
END
$$;
