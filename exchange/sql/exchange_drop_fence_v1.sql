-- Takes the right to write away from the holder of these symbols. Called by authority when a lease ends.
--
-- Locks: the quote rows, in symbol order; so it waits for a quote in flight. The epoch stays as it is.
-- With a reason (the holder was lost) the live quotes are withdrawn in the same commit: cancel on disconnect.
-- Without one (planned handover) they stay, to be superseded by the next holder's or to lapse at valid_until.
CREATE FUNCTION exchange_drop_fence_v1(p_symbols text[], p_holder uuid, p_withdrawn_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    PERFORM 1 FROM exchange_quote WHERE symbol = ANY (p_symbols) ORDER BY symbol FOR UPDATE;
    UPDATE exchange_quote SET holder = NULL, node = NULL WHERE symbol = ANY (p_symbols) AND holder = p_holder;
    IF p_withdrawn_reason IS NOT NULL THEN
        PERFORM exchange_withdraw_quotes_v1(p_symbols, p_withdrawn_reason);
    END IF;
END
$$;
