-- Registers a node under a name and gives it a new incarnation. Call it on the node's dedicated, direct connection: that
-- session takes the incarnation's advisory lock and keeps it for as long as it lives.
--
-- Locks: the node row (one registration of a name at a time); an incarnation to be ended and what it held; the session lock.
-- An earlier incarnation of the name that has expired, or whose session is gone, is ended first; no row comes back while it
-- holds more than one call takes away, or one that somebody else keeps locked: call it again.
-- Raises MM001 name_in_use while an earlier one is alive, MM422 for a bad name or TTL. Rings mm_authority.
CREATE FUNCTION authority_register_v3(p_node text, p_ttl_ms integer)
RETURNS TABLE (incarnation uuid, serial integer, expires_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    i authority_incarnation;
    v_reason text;
    v_done boolean;
BEGIN
    IF p_node IS NULL OR p_node !~ '^[a-z0-9][a-z0-9-]{0,62}$' THEN
        RAISE EXCEPTION 'a node name is 1 to 63 of a-z, 0-9 and -, not starting with -' USING ERRCODE = 'MM422';
    ELSIF p_ttl_ms IS NULL OR p_ttl_ms NOT BETWEEN 200 AND 86400000 THEN
        RAISE EXCEPTION 'a TTL is 200 ms to 1 day' USING ERRCODE = 'MM422';
    END IF;
    INSERT INTO authority_node (name) VALUES (p_node) ON CONFLICT (name) DO NOTHING;
    PERFORM 1 FROM authority_node WHERE name = p_node FOR UPDATE;
    SELECT * INTO i FROM authority_incarnation a WHERE a.node = p_node AND a.ended_at IS NULL FOR UPDATE;
    IF FOUND THEN
        v_reason := CASE
            WHEN i.ending IN ('expired', 'session_lost') THEN i.ending
            WHEN i.expires_at <= clock_timestamp() THEN 'expired'
            WHEN NOT authority_session_alive_v1(i.serial) THEN 'session_lost'
        END;
        IF v_reason IS NULL THEN
            RAISE EXCEPTION 'node % is already running', p_node USING ERRCODE = 'MM001';
        END IF;
        SELECT e.done INTO v_done
          FROM authority_end_incarnation_v3(
                   i.id, v_reason,
                   CASE WHEN i.ending = v_reason THEN i.ending_at
                        WHEN v_reason = 'expired' THEN i.expires_at END,  -- a lost session: when the fence is down
                   250) e;
        IF NOT v_done THEN
            RETURN;
        END IF;
    END IF;
    INSERT INTO authority_incarnation (id, node, ttl_ms, expires_at)
    VALUES (gen_random_uuid(), p_node, p_ttl_ms, clock_timestamp() + p_ttl_ms * interval '1 millisecond')
    RETURNING * INTO i;
    PERFORM pg_advisory_lock(journal_lock_v1('incarnation'), i.serial);
    INSERT INTO journal_activity (kind, node, data)
    VALUES ('registered', p_node, jsonb_build_object('incarnation', i.id, 'ttl_ms', p_ttl_ms));
    PERFORM pg_notify('mm_authority', '');
    RETURN QUERY SELECT i.id, i.serial, i.expires_at;
END
$$;
