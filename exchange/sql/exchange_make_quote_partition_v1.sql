-- Makes an empty partition of the quote versions: p_bound is "FOR VALUES ..." or "DEFAULT". Internal, as the tables' owner.
--
-- Locks: the new table; exchange_quoteversion in SHARE UPDATE EXCLUSIVE mode, which no quote and no reader waits for; the default
-- partition in ACCESS EXCLUSIVE mode, which readers wait for, and quotes only while they fall into it. (CREATE TABLE ... PARTITION
-- OF would lock exchange_quoteversion itself against everybody.) Raises check_violation when the default has rows of that range.
--
-- Each partition has what a partitioned table can't ask of it: UNIQUE (symbol, version), without the time, and the trigger that
-- refuses TRUNCATE. The row trigger, the primary key and the index of withdrawals come with the parent. Nobody has rights on it:
-- it is read and written through the parent. Its rows are only ever added and then dropped all at once: vacuuming them after so
-- many inserts, for an index that could skip the table, would be work for nothing.
CREATE FUNCTION exchange_make_quote_partition_v1(p_name text, p_bound text) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
BEGIN
    EXECUTE format(
        'CREATE TABLE public.%I (LIKE exchange_quoteversion INCLUDING DEFAULTS INCLUDING CONSTRAINTS,'
        ' CONSTRAINT %I UNIQUE (symbol, version)) WITH (autovacuum_vacuum_insert_threshold = -1)',
        p_name, replace(p_name, 'exchange_quoteversion', 'quote_version_once'));
    EXECUTE format(
        'CREATE TRIGGER append_only_table BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION journal_append_only_v1()',
        p_name);
    EXECUTE format('ALTER TABLE exchange_quoteversion ATTACH PARTITION %I %s', p_name, p_bound);
END
$$;
