-- Ends an incarnation that has expired, by the database's clock, or whose session is gone: one a call, and at most p_most of its
-- symbols.
--
-- Locks: the incarnation row; then what it held (see authority_end_incarnation_v3). One a call, so that the symbols of a second
-- one are not locked after those of the first, out of order. One that can't be ended for a row that somebody else keeps locked is
-- passed over, and keeps no other from being ended; after a second of waiting for such rows it is left at that. Anyone may call it at any time, again until
-- no row comes back; nothing happens to an incarnation that is alive. Returns the one that it ended, how many symbols it took
-- away, and whether that was all.
CREATE FUNCTION authority_sweep_v3(p_most integer DEFAULT 250)
RETURNS TABLE (incarnation uuid, node text, reason text, symbols integer, done boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '700ms'
AS $$
#variable_conflict use_column
DECLARE
    c authority_incarnation;
    i authority_incarnation;
    e record;
    v_alive bigint[];
    v_reason text;
    v_until timestamptz := clock_timestamp() + interval '1 second';
BEGIN
    -- Read once for all: the server makes this view anew each time, out of every lock that there is.
    SELECT array_agg(objid::bigint) INTO v_alive FROM pg_locks
     WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted AND objsubid = 2
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND classid::bigint = journal_lock_v1('incarnation');
    -- Those whose end has begun come last: it may be that nobody can go on with it.
    FOR c IN SELECT * FROM authority_incarnation WHERE ended_at IS NULL
              ORDER BY coalesce(ending IN ('expired', 'session_lost'), false), serial LOOP
        EXIT WHEN clock_timestamp() > v_until;
        CONTINUE WHEN c.expires_at > clock_timestamp() AND c.serial = ANY (v_alive);
        -- Judged again under the lock: a renewal may have come in between.
        BEGIN
            SELECT * INTO i FROM authority_incarnation WHERE id = c.id AND ended_at IS NULL FOR UPDATE;
            CONTINUE WHEN NOT FOUND;
            v_reason := CASE
                WHEN i.ending IN ('expired', 'session_lost') THEN i.ending
                WHEN i.expires_at <= clock_timestamp() THEN 'expired'
                WHEN NOT authority_session_alive_v1(i.serial) THEN 'session_lost'
            END;
            CONTINUE WHEN v_reason IS NULL;
            SELECT * INTO e
              FROM authority_end_incarnation_v3(
                       i.id, v_reason,
                       CASE WHEN i.ending = v_reason THEN i.ending_at
                            WHEN v_reason = 'expired' THEN i.expires_at END,  -- a lost session: when the fence is down
                       p_most);
        EXCEPTION WHEN lock_not_available THEN
            CONTINUE;
        END;
        CONTINUE WHEN e.symbols = 0 AND NOT e.done AND i.ending IS NOT DISTINCT FROM v_reason;
        RETURN QUERY SELECT i.id, i.node, v_reason, e.symbols, e.done;
        EXIT;
    END LOOP;
END
$$;
