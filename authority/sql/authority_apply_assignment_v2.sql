-- Applies an assignment that was computed from a generation and its members, if both still stand.
--
-- Locks: the membership advisory lock until commit, so that applications come one after another; then assignment rows. A symbol
-- that is assigned for the first time gets its lease row, free.
-- 'applied' (a new generation), 'unchanged' (nothing to do: the same members and the same assignment), or 'stale' (another
-- one was applied meanwhile, or the members have changed: read again and compute again). Doing it twice changes nothing.
-- The compare-and-set is judged by statements that begin after the lock is held, so READ COMMITTED is enough.
-- Rings mm_authority when it applies.
CREATE FUNCTION authority_apply_assignment_v2(
    p_generation bigint, p_members text[], p_symbols text[], p_nodes text[], p_applied_by text, p_cause text
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    v_last authority_rebalance;
    v_moves integer;
BEGIN
    PERFORM pg_advisory_xact_lock(journal_lock_v1('membership'), 0);
    SELECT * INTO v_last FROM authority_rebalance ORDER BY generation DESC LIMIT 1;
    IF coalesce(v_last.generation, 0) <> p_generation
       OR p_members IS DISTINCT FROM (SELECT array_agg(node ORDER BY node COLLATE "C") FROM authority_member) THEN
        RETURN 'stale';
    END IF;
    IF cardinality(p_symbols) IS DISTINCT FROM cardinality(p_nodes)
       OR EXISTS (SELECT FROM unnest(p_nodes) n WHERE n <> ALL (p_members)) THEN
        RAISE EXCEPTION 'each symbol goes to one of the members' USING ERRCODE = 'MM422';
    END IF;
    WITH changed AS (
        INSERT INTO authority_assignment AS a (symbol, node, generation)
        SELECT i.symbol, i.node, p_generation + 1
          FROM unnest(p_symbols, p_nodes) AS i (symbol, node)
          JOIN exchange_symbol s ON s.name = i.symbol
         WHERE NOT EXISTS (SELECT FROM authority_assignment c WHERE c.symbol = i.symbol AND c.node = i.node)
         ORDER BY i.symbol
        ON CONFLICT (symbol) DO UPDATE SET node = excluded.node, generation = excluded.generation
        RETURNING 1
    )
    SELECT count(*) INTO v_moves FROM changed;
    INSERT INTO authority_lease (symbol)
    SELECT symbol FROM authority_assignment a
     WHERE NOT EXISTS (SELECT FROM authority_lease l WHERE l.symbol = a.symbol) ORDER BY symbol
    ON CONFLICT (symbol) DO NOTHING;
    IF v_moves = 0 AND v_last.members IS NOT DISTINCT FROM p_members THEN
        RETURN 'unchanged';
    END IF;
    INSERT INTO authority_rebalance (generation, applied_by, members, moves, cause)
    VALUES (p_generation + 1, p_applied_by, p_members, v_moves, p_cause);
    INSERT INTO journal_activity (kind, node, data)
    VALUES ('rebalanced', p_applied_by, jsonb_build_object('generation', p_generation + 1, 'members', to_jsonb(p_members),
                                                           'moves', v_moves, 'cause', p_cause));
    PERFORM pg_notify('mm_authority', '');
    RETURN 'applied';
END
$$;
