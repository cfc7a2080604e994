-- A node leaves on purpose: releases what it still holds, at most p_most symbols a call, and ends its incarnation with the last.
--
-- Locks: the incarnation row; its lease rows; their quote rows. The live quotes stay for the successors to supersede.
-- Returns the number of symbols released, 0 when it had already ended, and whether that was all: call it again until it is.
-- Rings mm_authority.
CREATE FUNCTION authority_leave_v3(
    p_incarnation uuid, p_most integer DEFAULT 250, OUT released integer, OUT done boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    PERFORM 1 FROM authority_incarnation WHERE id = p_incarnation FOR UPDATE;
    SELECT e.symbols, e.done INTO released, done
      FROM authority_end_incarnation_v3(p_incarnation, 'released', NULL, p_most) e;
END
$$;
