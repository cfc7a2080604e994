-- Grants free leases of these symbols to an incarnation, each under the next epoch.
--
-- Locks: the incarnation row (shared, so that it can't be ended meanwhile); the lease rows in symbol order; the free ones' quote rows
-- in symbol order. Per symbol: granted (with the new epoch), held (somebody has it: wait for the release), busy (free, but
-- somebody else keeps a row of it locked: ask again, and without p_wait, which is to wait for such), not_assigned, ended (the
-- incarnation has ended or expired, or is leaving). Each grant opens a tenure and raises the fence in the same commit.
-- A symbol has its lease row since it was first assigned. Keeps I1, I2, I3, I4. Rings mm_authority when it grants.
CREATE FUNCTION authority_acquire_v3(p_incarnation uuid, p_symbols text[], p_wait boolean DEFAULT true)
RETURNS TABLE (symbol text, epoch bigint, outcome text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    me authority_incarnation;
    v_locked text[];
    v_granted text[];
    v_epochs bigint[];
BEGIN
    SELECT * INTO me FROM authority_incarnation WHERE id = p_incarnation AND ended_at IS NULL AND ending IS NULL FOR SHARE;
    v_locked := authority_lock_leases_v1(
        ARRAY(SELECT a.symbol FROM authority_assignment a WHERE a.symbol = ANY (p_symbols) AND a.node = me.node), NULL, p_wait);
    IF me.expires_at > clock_timestamp() THEN
        WITH granted AS (
            UPDATE authority_lease l
               SET incarnation = me.id, node = me.node, epoch = l.epoch + 1,
                   granted_at = greatest(clock_timestamp(), l.released_at), released_at = NULL
              FROM unnest(v_locked) AS i (symbol) JOIN authority_assignment a ON a.symbol = i.symbol
             WHERE l.symbol = i.symbol AND a.node = me.node
            RETURNING l.symbol, l.epoch, l.granted_at
        ), opened AS (
            INSERT INTO authority_tenure (symbol, epoch, incarnation, node, granted_at)
            SELECT g.symbol, g.epoch, me.id, me.node, g.granted_at FROM granted g
        )
        SELECT array_agg(g.symbol ORDER BY g.symbol), array_agg(g.epoch ORDER BY g.symbol)
          INTO v_granted, v_epochs FROM granted g;
    END IF;
    IF v_granted IS NOT NULL THEN
        PERFORM exchange_raise_fence_v1(v_granted, v_epochs, me.id, me.node);
        INSERT INTO journal_activity (kind, symbol, node, data)
        SELECT 'granted', g.symbol, me.node, jsonb_build_object('epoch', g.epoch, 'incarnation', me.id)
          FROM unnest(v_granted, v_epochs) AS g (symbol, epoch);
        PERFORM pg_notify('mm_authority', '-');  -- of interest to those who show it, to no node
        IF cardinality(v_granted) = cardinality(p_symbols) THEN
            RETURN QUERY SELECT g.symbol, g.epoch, 'granted' FROM unnest(v_granted, v_epochs) AS g (symbol, epoch);
            RETURN;
        END IF;
    END IF;
    RETURN QUERY
        SELECT s.symbol, l.epoch,
               CASE WHEN s.symbol = ANY (v_granted) THEN 'granted'
                    WHEN coalesce(me.expires_at <= clock_timestamp(), true) THEN 'ended'
                    WHEN NOT EXISTS (SELECT FROM authority_assignment a WHERE a.symbol = s.symbol AND a.node = me.node)
                    THEN 'not_assigned'
                    WHEN l.node IS NULL THEN 'busy'
                    ELSE 'held' END
          FROM (SELECT DISTINCT unnest(p_symbols) AS symbol) s LEFT JOIN authority_lease l ON l.symbol = s.symbol;
END
$$;
