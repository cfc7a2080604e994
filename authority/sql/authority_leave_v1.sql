-- A node leaves on purpose: releases all that it holds and ends its incarnation, in one commit.
--
-- Locks: the incarnation row; its lease rows; their quote rows. The live quotes stay for the successors to supersede.
-- Returns the number of symbols released, 0 when it had already ended. Rings mm_authority.
CREATE FUNCTION authority_leave_v1(p_incarnation uuid) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    PERFORM 1 FROM authority_incarnation WHERE id = p_incarnation FOR UPDATE;
    RETURN authority_end_incarnation_v1(p_incarnation, 'released', clock_timestamp());
END
$$;
