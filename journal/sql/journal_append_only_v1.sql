-- Trigger: refuses to change or remove what has been recorded, for every role. Keeps I7 and I13.
CREATE FUNCTION journal_append_only_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
