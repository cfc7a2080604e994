-- A node is about to leave on purpose: from now on it is no member, so that its symbols are assigned to the others while it still
-- quotes them; it releases them as they are (authority_release_v2) and then leaves (authority_leave_v2).
--
-- Locks: the incarnation row. Returns how many members there are to hand over to; with none, leave at once.
-- Again, or after its end, it changes nothing. Rings mm_authority.
CREATE FUNCTION authority_begin_leave_v1(p_incarnation uuid) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    -- A grant of the node's own may hold the row for as long as it waits for another's: then it leaves without handing over.
    PERFORM set_config('lock_timeout', '300', true);
    UPDATE authority_incarnation SET ending = 'released', ending_at = clock_timestamp()
     WHERE id = p_incarnation AND ended_at IS NULL AND ending IS NULL;
    IF FOUND THEN
        PERFORM pg_notify('mm_authority', '');
    END IF;
    RETURN (SELECT count(*) FROM authority_member);
END
$$;
