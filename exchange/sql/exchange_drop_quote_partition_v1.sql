-- Drops a partition of the quote versions, all of them published before p_before, and notes how far each symbol's go. Internal.
--
-- Locks: the partition against writers (who are there only if the clock was set back), and what it holds is read under that lock;
-- then exchange_quoteversion and the default partition against everybody, only for the drop itself. A default partition is made anew.
-- Raises lock_not_available, also when it has come into use again meanwhile.
CREATE FUNCTION exchange_drop_quote_partition_v1(p_partition regclass, p_before timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
DECLARE
    v_is_default boolean := p_partition = 'exchange_quoteversion_default'::regclass;
BEGIN
    EXECUTE format('LOCK TABLE %s IN SHARE MODE', p_partition);
    IF exchange_holds_current_quote_v1(p_partition)
       OR v_is_default AND EXISTS (SELECT FROM exchange_quoteversion_default WHERE published_at > p_before) THEN
        RAISE EXCEPTION '% has come into use again', p_partition USING ERRCODE = 'lock_not_available';
    END IF;
    EXECUTE format(
        'INSERT INTO exchange_retention AS r (symbol, version, dropped_before)'
        ' SELECT q.symbol, v.version, $1 FROM exchange_quote q'
        '  CROSS JOIN LATERAL (SELECT version FROM %s p WHERE p.symbol = q.symbol ORDER BY version DESC LIMIT 1) v'
        '  ORDER BY q.symbol'
        ' ON CONFLICT (symbol) DO UPDATE SET version = greatest(r.version, excluded.version),'
        '                                    dropped_before = greatest(r.dropped_before, excluded.dropped_before)',
        p_partition) USING p_before;
    LOCK TABLE ONLY exchange_quoteversion IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('DROP TABLE %s', p_partition);
    IF v_is_default THEN
        PERFORM exchange_make_quote_partition_v1('exchange_quoteversion_default', 'DEFAULT');
    END IF;
END
$$;
