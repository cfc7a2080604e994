-- Rings mm_authority for the nodes that these symbols are assigned to: their leases are free.
--
-- Locks: the assignment rows, shared, until commit: an assignment that moves one of them meanwhile would be rung for before the
-- lease is free, and its node would find nothing. (Applying one takes assignment rows alone.) Waits half a second at most for
-- each, and then rings for all. Internal. A payload names the nodes that have something to do, comma-joined; an empty one says
-- that all should look, and "-" that no node need to. It is a hint and no fact: whoever is not named looks a little later anyway.
CREATE FUNCTION authority_ring_v2(p_symbols text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms'
AS $$
DECLARE
    v_nodes text;
BEGIN
    BEGIN
        PERFORM 1 FROM authority_assignment WHERE symbol = ANY (p_symbols) ORDER BY symbol FOR SHARE;
        SELECT string_agg(DISTINCT node, ',') INTO v_nodes FROM authority_assignment WHERE symbol = ANY (p_symbols);
    EXCEPTION WHEN lock_not_available THEN
        v_nodes := '';  -- somebody keeps them locked: all look
    END;
    -- NOTIFY takes less than 8,000 bytes.
    PERFORM pg_notify('mm_authority', CASE WHEN octet_length(v_nodes) > 7000 THEN '' ELSE coalesce(v_nodes, '-') END);
END
$$;
