-- The registry of advisory lock classes: the one place where their numbers are given.
--   incarnation  (class, serial)  session lock held by a node's dedicated connection for as long as it lives
--   membership   (class, 0)       transaction lock taken while an assignment is applied
CREATE FUNCTION journal_lock_v1(p_name text) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT CASE p_name WHEN 'incarnation' THEN 7001 WHEN 'membership' THEN 7002 END
$$;
