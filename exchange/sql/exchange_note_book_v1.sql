-- Writes down in the quote row the best price that rests on each side of a symbol's book, null where nothing does.
--
-- Locks: the symbol's quote row (already held by the caller). Internal: called by whatever made an order rest, trade or end, after
-- that statement. So whoever holds the row's lock knows without a further look whether anything rests before the quote.
CREATE FUNCTION exchange_note_book_v1(p_symbol text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    UPDATE exchange_quote
       SET book_bid = (SELECT max(price) FROM exchange_order
                        WHERE symbol = p_symbol AND side = 'buy' AND status IN ('resting', 'partially_filled')),
           book_ask = (SELECT min(price) FROM exchange_order
                        WHERE symbol = p_symbol AND side = 'sell' AND status IN ('resting', 'partially_filled'))
     WHERE symbol = p_symbol;
END
$$;
