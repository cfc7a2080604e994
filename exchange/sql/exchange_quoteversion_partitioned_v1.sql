-- Makes exchange_quoteversion a table partitioned by published_at. What it holds stays where it is and becomes one partition, up to
-- the next slot: copied rows would be written by another transaction, and I4 and I5 compare the commit times of those that wrote them.
ALTER TABLE exchange_quoteversion RENAME TO exchange_quoteversion_before;
ALTER INDEX quote_withdrawals RENAME TO exchange_quoteversion_before_withdrawals;
ALTER TABLE exchange_quoteversion_before
    ALTER COLUMN id DROP IDENTITY IF EXISTS,
    DROP CONSTRAINT exchange_quoteversion_pkey;
ALTER TABLE exchange_quoteversion_before RENAME CONSTRAINT quote_version_once TO quote_version_once_before;
DROP TRIGGER append_only_row ON exchange_quoteversion_before; -- it comes again with the parent's

CREATE SEQUENCE exchange_quoteversion_id_seq AS bigint;
SELECT setval('exchange_quoteversion_id_seq', coalesce(max(id), 0) + 1, false) FROM exchange_quoteversion_before;
ALTER TABLE exchange_quoteversion_before ALTER COLUMN id SET DEFAULT nextval('exchange_quoteversion_id_seq');

CREATE TABLE exchange_quoteversion (LIKE exchange_quoteversion_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS,
                                    PRIMARY KEY (id, published_at)) PARTITION BY RANGE (published_at);
ALTER SEQUENCE exchange_quoteversion_id_seq OWNED BY exchange_quoteversion.id;
CREATE INDEX quote_withdrawals ON exchange_quoteversion (symbol, version) WHERE withdrawn_reason IS NOT NULL;
CREATE TRIGGER append_only_row BEFORE UPDATE OR DELETE ON exchange_quoteversion
    FOR EACH ROW EXECUTE FUNCTION journal_append_only_v1();
CREATE TRIGGER append_only_table BEFORE TRUNCATE ON exchange_quoteversion
    FOR EACH STATEMENT EXECUTE FUNCTION journal_append_only_v1();

REVOKE ALL ON exchange_quoteversion_before FROM mm_exchange, mm_ledger, mm_authority, mm_node, mm_console;
GRANT SELECT ON exchange_quoteversion TO mm_exchange, mm_ledger, mm_authority, mm_node, mm_console;
GRANT INSERT ON exchange_quoteversion TO mm_exchange;
GRANT USAGE ON SEQUENCE exchange_quoteversion_id_seq TO mm_exchange;

DO $$
DECLARE
    v_last timestamptz;
BEGIN
    SELECT max(published_at) INTO v_last FROM exchange_quoteversion_before;
    IF v_last IS NULL THEN
        DROP TABLE exchange_quoteversion_before;
    ELSE
        EXECUTE format('ALTER TABLE exchange_quoteversion ATTACH PARTITION exchange_quoteversion_before'
                       ' FOR VALUES FROM (MINVALUE) TO (%L)',
                       date_bin('5 minutes', greatest(v_last, clock_timestamp()), 'epoch') + interval '5 minutes');
    END IF;
    PERFORM exchange_make_quote_partition_v1('exchange_quoteversion_default', 'DEFAULT');
END
$$;
