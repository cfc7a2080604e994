-- Waits until the session behind an incarnation is gone: true then, false when p_wait_ms has passed first.
--
-- Locks: the incarnation's advisory lock, shared, for a moment. It wakes when the server frees the dead session's lock.
-- The wait is short on purpose: a waiting statement holds a snapshot, and an old snapshot keeps every dead row version of
-- the hot tables from being pruned.
CREATE FUNCTION authority_watch_v1(p_serial integer, p_wait_ms integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    PERFORM set_config('lock_timeout', greatest(p_wait_ms, 1)::text, true);
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(journal_lock_v1('incarnation'), p_serial);
        RETURN true;
    EXCEPTION WHEN lock_not_available THEN
        RETURN false;
    END;
END
$$;
