-- Renews an incarnation: one row, one call, whatever the number of symbols it holds.
--
-- Locks: the incarnation row, before anything is judged: a renewal that had to wait for it past the expiry must not bring the
-- incarnation back. No row comes back when it has ended or expired: it never comes back either, register again.
-- One that comes later than half a time to live after the last begins steady_since anew: for the invariants a node is healthy for
-- as long as it has renewed without such a pause.
-- Returns its new expires_at, the database's clock, the earliest expires_at of the others (to wake exactly then), and the
-- assignment's generation (so that a lost doorbell costs one renewal interval at most).
CREATE FUNCTION authority_renew_v3(p_incarnation uuid)
RETURNS TABLE (expires_at timestamptz, now timestamptz, next_expiry timestamptz, generation bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_expires_at timestamptz;
BEGIN
    PERFORM 1 FROM authority_incarnation WHERE id = p_incarnation FOR NO KEY UPDATE;
    UPDATE authority_incarnation
       SET expires_at = clock_timestamp() + ttl_ms * interval '1 millisecond',
           steady_since = CASE WHEN expires_at - clock_timestamp() < ttl_ms * interval '0.5 milliseconds'
                               THEN clock_timestamp() ELSE steady_since END
     WHERE id = p_incarnation AND ended_at IS NULL AND expires_at > clock_timestamp() RETURNING expires_at INTO v_expires_at;
    IF FOUND THEN
        RETURN QUERY
            SELECT v_expires_at, clock_timestamp(),
                   (SELECT min(o.expires_at) FROM authority_incarnation o WHERE o.ended_at IS NULL AND o.id <> p_incarnation),
                   (SELECT coalesce(max(r.generation), 0) FROM authority_rebalance r);
    END IF;
END
$$;
