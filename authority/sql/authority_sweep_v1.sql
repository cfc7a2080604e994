-- Ends an incarnation that has expired, by the database's clock, or whose session is gone: one a call.
--
-- Locks: the incarnation row; then what it held (see authority_end_incarnation_v1). One a call, so that the symbols of a second
-- one are not locked after those of the first, out of order. Anyone may call it at any time, again until no row comes back;
-- nothing happens to an incarnation that is alive. Returns the one that it ended.
CREATE FUNCTION authority_sweep_v1() RETURNS TABLE (incarnation uuid, node text, reason text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    c authority_incarnation;
    i authority_incarnation;
    v_reason text;
BEGIN
    FOR c IN SELECT * FROM authority_incarnation WHERE ended_at IS NULL ORDER BY serial LOOP
        CONTINUE WHEN c.expires_at > clock_timestamp() AND authority_session_alive_v1(c.serial);
        -- Judged again under the lock: a renewal may have come in between.
        SELECT * INTO i FROM authority_incarnation WHERE id = c.id AND ended_at IS NULL FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        v_reason := CASE
            WHEN i.expires_at <= clock_timestamp() THEN 'expired'
            WHEN NOT authority_session_alive_v1(i.serial) THEN 'session_lost'
        END;
        CONTINUE WHEN v_reason IS NULL;
        PERFORM authority_end_incarnation_v1(
            i.id, v_reason, CASE v_reason WHEN 'expired' THEN i.expires_at ELSE clock_timestamp() END);
        RETURN QUERY SELECT i.id, i.node, v_reason;
        EXIT;
    END LOOP;
END
$$;
