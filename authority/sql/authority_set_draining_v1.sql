-- An operator drains a node (its symbols move to the others, none come to it) or lets it take some again.
--
-- Locks: the node row. Leaves an audit row, changed or not. Rings mm_authority. Keeps I13.
-- Returns {"node", "before", "after"}. Raises MM404 for a node that never registered.
CREATE FUNCTION authority_set_draining_v1(p_node text, p_draining boolean, p_actor text, p_reason text DEFAULT '')
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    v_before boolean;
    v_action text := CASE WHEN p_draining THEN 'drain' ELSE 'undrain' END;
BEGIN
    SELECT draining INTO v_before FROM authority_node WHERE name = p_node FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'unknown node %', p_node USING ERRCODE = 'MM404';
    END IF;
    UPDATE authority_node SET draining = p_draining WHERE name = p_node AND draining <> p_draining;
    INSERT INTO journal_audit (actor, action, target, before, after, reason)
    VALUES (p_actor, v_action, p_node, to_jsonb(v_before), to_jsonb(p_draining), coalesce(p_reason, ''));
    INSERT INTO journal_activity (kind, node, data)
    VALUES (v_action, p_node, jsonb_build_object('actor', p_actor, 'reason', coalesce(p_reason, ''),
                                                 'changed', v_before <> p_draining));
    PERFORM pg_notify('mm_authority', '');
    RETURN jsonb_build_object('node', p_node, 'before', v_before, 'after', p_draining);
END
$$;
