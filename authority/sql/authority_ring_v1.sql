-- Rings mm_authority for the nodes that these symbols are assigned to: their leases are free.
--
-- Locks: none. Internal. A payload names the nodes that have something to do, comma-joined; an empty one says that all should
-- look, and "-" that no node need to. It is a hint and no fact: whoever is not named looks a little later anyway.
CREATE FUNCTION authority_ring_v1(p_symbols text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    v_nodes text;
BEGIN
    SELECT string_agg(DISTINCT node, ',') INTO v_nodes FROM authority_assignment WHERE symbol = ANY (p_symbols);
    -- NOTIFY takes less than 8,000 bytes.
    PERFORM pg_notify('mm_authority', CASE WHEN octet_length(v_nodes) > 7000 THEN '' ELSE coalesce(v_nodes, '-') END);
END
$$;
