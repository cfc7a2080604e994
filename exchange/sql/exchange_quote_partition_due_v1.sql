-- What the partitions of the quote versions need first: "make" one, "drop" one, or nothing (no row). Reads only.
--
-- Partitions follow one another without a gap, each a twelfth of the retention wide (at least 10 s), and reach four widths ahead.
-- When there is none for now (nobody has kept them for long), quotes fall into the default partition. Then the next begins with the
-- current slot if the default has nothing of it, else with the slot after: a range that the default has rows of can't be made. It
-- is made alone, because it costs a scan of the default that quotes wait for; the others can wait until they go there.
--
-- What is past the horizon is dropped, unless it holds a symbol's newest version: a market that has stood still, or a symbol that
-- has been off for long, keeps its last word. The default is dropped (and made anew) when all its rows are past the horizon.
CREATE FUNCTION exchange_quote_partition_due_v1(p_retention_ms bigint)
RETURNS TABLE (action text, partition text, from_at timestamptz, to_at timestamptz)
LANGUAGE plpgsql VOLATILE SET search_path = public, pg_temp
AS $$
DECLARE
    c_per_retention CONSTANT integer := 12;
    c_width_min_s CONSTANT integer := 10;
    c_ahead CONSTANT integer := 4;
    v_now timestamptz := clock_timestamp();
    v_horizon timestamptz := v_now - p_retention_ms * interval '1 millisecond';
    v_width interval := make_interval(secs => greatest(p_retention_ms / 1000 / c_per_retention, c_width_min_s));
    v_slot timestamptz := date_bin(v_width, v_now, 'epoch');
    v_last timestamptz;
    v_is_covered boolean;
    v_caught_at timestamptz;
    p record;
BEGIN
    SELECT coalesce(max(l.to_at), '-infinity'), coalesce(bool_or(l.from_at <= v_now AND l.to_at > v_now), false)
      INTO v_last, v_is_covered FROM exchange_quote_partitions_v1() l WHERE NOT l.is_default;
    -- Its newest row, near enough: two quotes at once may take their ids and their times in different order.
    SELECT d.published_at INTO v_caught_at FROM exchange_quoteversion_default d ORDER BY d.id DESC LIMIT 1;
    IF v_last < v_now + c_ahead * v_width AND (v_is_covered OR v_last <= v_now) THEN
        action := 'make';
        from_at := CASE WHEN v_is_covered THEN v_last
                        WHEN v_caught_at >= v_slot THEN v_slot + v_width
                        ELSE greatest(v_last, v_slot) END;
        to_at := date_bin(v_width, from_at, 'epoch') + v_width;
        partition := 'exchange_quoteversion_' || to_char(from_at AT TIME ZONE 'UTC', 'YYYYMMDD"t"HH24MISS');
        RETURN NEXT;
        RETURN;
    END IF;
    FOR p IN SELECT l.* FROM exchange_quote_partitions_v1() l WHERE coalesce(l.to_at, v_caught_at) <= v_horizon LOOP
        IF NOT exchange_holds_current_quote_v1(p.partition)
           AND NOT (p.is_default AND EXISTS (SELECT FROM exchange_quoteversion_default d WHERE d.published_at > v_horizon)) THEN
            action := 'drop';
            partition := p.partition::text;
            from_at := p.from_at;
            to_at := coalesce(p.to_at, v_horizon);
            RETURN NEXT;
            RETURN;
        END IF;
    END LOOP;
END
$$;
