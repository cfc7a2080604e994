-- Keeps the partitions of the quote versions: one step a call, and one commit. Makes the next one ahead of time, or drops one whose
-- rows are all older than the retention; see exchange_quote_partition_due_v1. Anyone may call it, twice or at once: what is due is
-- read again under the lock. Answers what it did ("make" or "drop", and which), "busy" when it has to come again, or no row when
-- nothing is due. Raises MM422 unless the retention is 1 min to 30 days and the transaction reads what others commit.
--
-- Locks: exchange_quoteversion in SHARE UPDATE EXCLUSIVE mode (one keeper at a time), then
--   to make: the default partition against everybody (quotes don't touch it unless they fall into it);
--   to drop: the partition against writers, then exchange_quoteversion and the default against everybody, for milliseconds.
-- No row of another table. It waits for nobody longer than 50 ms, so no quote waits longer than that behind it; and it does not
-- even ask for what a reader holds (verify reads for seconds), since quotes would queue up behind the question.
--
-- exchange_retention notes in the same commit up to which version each symbol's quotes may be missing: verify tells what was dropped
-- from what was lost by it. Runs as the tables' owner, for whom alone there is DDL; its one argument is a number.
CREATE FUNCTION exchange_keep_partitions_v1(p_retention_ms bigint) RETURNS TABLE (action text, partition text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '50ms'
SET timezone = 'UTC' SET datestyle = 'ISO'
AS $$
DECLARE
    d record;
    v_partition text;
BEGIN
    IF p_retention_ms IS NULL OR p_retention_ms NOT BETWEEN 60000 AND 2592000000
       OR current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a retention of 1 min to 30 days, in a transaction that is read committed' USING ERRCODE = 'MM422';
    END IF;
    BEGIN
        SELECT * INTO d FROM exchange_quote_partition_due_v1(p_retention_ms);
        IF d.action IS NULL THEN
            RETURN;
        END IF;
        v_partition := d.partition;
        LOCK TABLE ONLY exchange_quoteversion IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;
        SELECT * INTO d FROM exchange_quote_partition_due_v1(p_retention_ms);
        IF d.action IS NULL THEN
            RETURN;
        END IF;
        v_partition := d.partition;
        IF EXISTS (SELECT FROM pg_locks l
                    WHERE l.relation IN ('exchange_quoteversion'::regclass, 'exchange_quoteversion_default'::regclass)
                      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                      AND l.granted AND l.mode <> 'RowExclusiveLock' AND l.pid <> pg_backend_pid()) THEN
            action := 'busy';
        ELSIF d.action = 'make' THEN
            PERFORM exchange_make_quote_partition_v1(
                d.partition, format('FOR VALUES FROM (%L) TO (%L)', d.from_at, d.to_at));
            action := 'make';
        ELSE
            PERFORM exchange_drop_quote_partition_v1(d.partition::regclass, d.to_at);
            action := 'drop';
        END IF;
    EXCEPTION
        -- Somebody was faster, or a quote came into the default just now (check_violation).
        WHEN lock_not_available OR check_violation THEN
            action := 'busy';
    END;
    partition := v_partition; -- null when another keeper held what the question reads
    RETURN NEXT;
END
$$;
