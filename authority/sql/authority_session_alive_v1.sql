-- Whether the session that registered this incarnation still holds its advisory lock. Reads pg_locks: takes no lock, so it
-- can neither be mistaken for the holder nor get in a watcher's way.
CREATE FUNCTION authority_session_alive_v1(p_serial integer) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM pg_locks
         WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted AND objsubid = 2
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND classid::bigint = journal_lock_v1('incarnation') AND objid::bigint = p_serial)
$$;
