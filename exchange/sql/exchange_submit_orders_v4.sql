-- Many orders in one commit: a jsonb array of orders as POST orders takes them (with "step" for generated ones), or of
-- {"cancel": client_order_id}. As if taken one after another in the array's order, each with its own answer.
--
-- In sets as far as that goes. Symbols never meet, so all of them are followed at once, each by itself:
--   1. the cancels that come before a symbol's first order;
--   2. its orders up to the first that the quote row alone does not decide: one that would trade with a resting order, is known
--      or malformed, or is an FOK that finds too little. Sums over the orders before it say what is left of the quote, and the
--      best price that has come to rest;
--   3. what is left one by one in the array's order, as if sent alone.
-- What has an id that comes twice in the array goes the third way, and so do its symbol's orders after it.
--
-- Locks: every quote row concerned, in symbol order, before anything is judged; then position rows. Returns the array of answers,
-- each as exchange_match_order_v2 or exchange_cancel_order_v2 gives it. Raises MM422 for anything but an array of at most 1000
-- objects, and what exchange_submit_order_v3 raises. Keeps I6, I7, I8, I9, I12.
CREATE FUNCTION exchange_submit_orders_v4(p_orders jsonb) RETURNS json
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    v_generates boolean := pg_has_role(session_user, 'mm_exchange', 'MEMBER');
    v_ids text[];
    v_unique boolean;
    v_twice text[] := '{}';
    v_at timestamptz;
    v_locked text[];
    v_live text[];
    v_filled text[] := '{}';
    v_answer jsonb;
    v_booked text[];
    v_ords bigint[] := '{}';
    v_answers text[] := '{}';
    v_some_ords bigint[];
    v_some_answers text[];
    f record;
    r record;
BEGIN
    IF jsonb_typeof(p_orders) IS DISTINCT FROM 'array' OR jsonb_array_length(p_orders) > 1000
       OR p_orders @? '$[*] ? (@.type() != "object" || @.cancel == null)' THEN
        RAISE EXCEPTION 'an array of at most 1000 orders and cancels' USING ERRCODE = 'MM422';
    END IF;
    SELECT array_agg(i ->> 'cancel') FILTER (WHERE i ? 'cancel'),
           count(*) = count(DISTINCT coalesce(i ->> 'cancel', i ->> 'client_order_id')),
           array_agg(DISTINCT i ->> 'symbol')
      INTO v_ids, v_unique, v_locked FROM jsonb_array_elements(p_orders) i;
    IF NOT v_unique THEN
        v_twice := ARRAY (SELECT id FROM (SELECT coalesce(i ->> 'cancel', i ->> 'client_order_id') AS id
                                            FROM jsonb_array_elements(p_orders) i) ids
                           WHERE id IS NOT NULL GROUP BY id HAVING count(*) > 1);
    END IF;
    -- An order's symbol never changes, so it may be read before the lock that everything else needs.
    IF v_ids IS NOT NULL THEN
        v_locked := v_locked || ARRAY (SELECT symbol FROM exchange_order WHERE client_order_id = ANY (v_ids));
    END IF;
    SELECT array_agg(symbol) FILTER (WHERE valid_until > clock_timestamp()) INTO v_live
      FROM (SELECT symbol, valid_until FROM exchange_quote WHERE symbol = ANY (v_locked) ORDER BY symbol FOR UPDATE) l;

    -- 1. The cancels that come first. The book's best prices are read anew where one of them was open.
    IF v_ids IS NOT NULL THEN
        WITH item AS (
            SELECT ord, i ->> 'cancel' AS cancel,
                   CASE WHEN i ? 'cancel' THEN o.symbol ELSE i ->> 'symbol' END AS symbol, o AS known
              FROM jsonb_array_elements(p_orders) WITH ORDINALITY AS e (i, ord)
              LEFT JOIN exchange_order o ON o.client_order_id = i ->> 'cancel'
        ), ahead AS MATERIALIZED (
            SELECT ord, cancel, known
              FROM (SELECT *, count(*) FILTER (WHERE cancel IS NULL) OVER (PARTITION BY symbol ORDER BY ord) AS orders
                      FROM item) numbered
             WHERE orders = 0 AND symbol = ANY (v_locked)  -- not one that has come meanwhile
               AND cancel <> ALL (v_twice)
        ), cancelled AS (
            UPDATE exchange_order o SET status = 'cancelled', updated_at = clock_timestamp()
              FROM ahead l WHERE o.client_order_id = l.cancel AND o.status IN ('resting', 'partially_filled')
            RETURNING l.ord, o
        ), told AS (
            INSERT INTO journal_activity (kind, symbol, data)
            SELECT 'order', (o).symbol, jsonb_build_object('client_order_id', (o).client_order_id, 'status', 'cancelled',
                                                           'side', (o).side, 'quantity', trim_scale((o).quantity)::text)
              FROM cancelled ORDER BY ord
        )
        SELECT array_agg(l.ord),
               array_agg(CASE WHEN c.ord IS NOT NULL THEN exchange_order_answer_v1(c.o)::text
                              WHEN (l.known).status = 'cancelled' THEN exchange_order_answer_v1(l.known)::text
                              ELSE '{"error": "not_open"}' END),
               array_agg(DISTINCT (c.o).symbol) FILTER (WHERE c.ord IS NOT NULL)
          INTO v_some_ords, v_some_answers, v_booked
          FROM ahead l LEFT JOIN cancelled c ON c.ord = l.ord;
        v_ords := v_ords || v_some_ords;
        v_answers := v_answers || v_some_answers;
        UPDATE exchange_quote q
           SET book_bid = (SELECT max(price) FROM exchange_order o WHERE o.symbol = q.symbol AND side = 'buy'
                              AND status IN ('resting', 'partially_filled')),
               book_ask = (SELECT min(price) FROM exchange_order o WHERE o.symbol = q.symbol AND side = 'sell'
                              AND status IN ('resting', 'partially_filled'))
         WHERE symbol = ANY (v_booked);
    END IF;

    -- 2. The orders that the quote row alone decides, all at one moment. What the sums need goes through the windows, and nothing else: they copy it.
    v_at := clock_timestamp();
    IF cardinality(v_ords) < jsonb_array_length(p_orders) THEN
        WITH item AS MATERIALIZED (
            SELECT i.*, o.id IS NOT NULL AS is_known, CASE WHEN i.cancel IS NULL THEN i.symbol ELSE o.symbol END AS its_symbol,
                   coalesce(coalesce(i.cancel, i.client_order_id) = ANY (v_twice), false) AS is_twice
              FROM ROWS FROM (jsonb_to_recordset(p_orders) AS (
                       client_order_id text, cancel text, symbol text, side text, type text, time_in_force text, price numeric,
                       quantity numeric, step bigint)) WITH ORDINALITY
                       AS i (client_order_id, cancel, symbol, side, type, time_in_force, price, quantity, step, ord)
              LEFT JOIN exchange_order o ON o.client_order_id = coalesce(i.cancel, i.client_order_id)
        ), met AS (
            SELECT i.ord, i.its_symbol AS symbol, i.cancel IS NOT NULL AS is_cancel, i.is_twice, i.side = 'buy' AS buys, i.price, i.quantity,
                   i.time_in_force = 'GTC' AS is_gtc, i.time_in_force = 'FOK' AS is_fok,
                   CASE WHEN i.side = 'buy' THEN q.ask_price ELSE q.bid_price END AS our_price,
                   CASE WHEN i.side = 'buy' THEN q.ask_quantity ELSE q.bid_quantity END AS our_quantity,
                   CASE WHEN i.side = 'buy' THEN q.book_ask ELSE q.book_bid END AS book,
                   coalesce(q.valid_until > v_at AND CASE WHEN i.side = 'buy' THEN q.ask_price <= coalesce(i.price, q.ask_price)
                                                          ELSE q.bid_price >= coalesce(i.price, q.bid_price) END, false) AS reaches,
                   coalesce(
                       NOT i.is_known AND octet_length(i.client_order_id) BETWEEN 1 AND 64
                       AND i.client_order_id !~ '^[^A-Za-z0-9]|[^A-Za-z0-9._:-]'
                       AND starts_with(i.client_order_id, 'ext-') = (i.step IS NOT NULL) AND (i.step IS NULL OR v_generates)
                       AND i.side = ANY ('{buy,sell}') AND i.type = CASE WHEN i.price IS NULL THEN 'market' ELSE 'limit' END
                       AND i.time_in_force = ANY ('{IOC,FOK,GTC}') AND (i.price IS NOT NULL OR i.time_in_force <> 'GTC')
                       AND i.quantity > 0 AND i.quantity < 1e15 AND coalesce(i.price > 0 AND i.price < 1e15, true)
                       AND i.quantity % q.lot_size = 0 AND coalesce(i.price % q.tick_size, 0) = 0, false) AS is_sound
              FROM item i LEFT JOIN exchange_quote q ON q.symbol = i.symbol
        ), taken AS (
            -- How much of the quote is left when the order's turn comes, and how much of that it takes.
            SELECT *, CASE WHEN reaches AND is_sound
                           THEN least(quantity, greatest(our_quantity - coalesce(CASE WHEN buys
                               THEN sum(quantity) FILTER (WHERE reaches AND is_sound AND buys) OVER before
                               ELSE sum(quantity) FILTER (WHERE reaches AND is_sound AND NOT buys) OVER before END, 0), 0))
                           ELSE 0 END AS take
              FROM met WINDOW before AS (PARTITION BY symbol ORDER BY ord ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        ), booked AS (
            -- The best price that rests on the other side by then, and the fills of the symbol so far.
            SELECT *, CASE WHEN buys THEN least(book, min(price) FILTER (WHERE is_gtc AND take < quantity AND NOT buys) OVER before)
                           ELSE greatest(book, max(price) FILTER (WHERE is_gtc AND take < quantity AND buys) OVER before) END AS best,
                   count(*) FILTER (WHERE take > 0) OVER before AS fills_before,
                   count(*) FILTER (WHERE NOT is_cancel) OVER before AS orders_before
              FROM taken WINDOW before AS (PARTITION BY symbol ORDER BY ord ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        ), decided AS MATERIALIZED (
            SELECT ord, symbol, is_cancel, buys, take, our_price, fills_before,
                   CASE WHEN is_twice THEN false
                        WHEN is_cancel THEN orders_before = 0
                        ELSE is_sound AND (take = 0 OR take = quantity OR NOT is_fok)
                             AND (best IS NULL
                                  OR (take = 0 OR CASE WHEN buys THEN best > our_price ELSE best < our_price END)
                                     AND (take = quantity
                                          OR coalesce(CASE WHEN buys THEN best > price ELSE best < price END, false))) END AS is_decided
              FROM booked
        ), placed AS MATERIALIZED (
            SELECT d.ord, d.symbol, d.buys, d.take, d.our_price, q.sequence + d.fills_before + 1 AS fill_sequence,
                   i.client_order_id, i.side, i.type, i.time_in_force, i.price, i.quantity, i.step, q.tick_size, q.lot_size, q.version,
                   q.quote_epoch, q.quote_incarnation, q.quote_node, i.time_in_force = 'GTC' AND d.take < i.quantity AS rests,
                   CASE WHEN d.take = i.quantity THEN 'filled'
                        WHEN i.time_in_force = 'FOK' OR i.type = 'market' AND d.take = 0 THEN 'rejected'
                        WHEN i.time_in_force <> 'GTC' THEN 'cancelled'
                        WHEN d.take > 0 THEN 'partially_filled'
                        ELSE 'resting' END AS status,
                   CASE WHEN d.take < i.quantity THEN
                       CASE WHEN i.time_in_force = 'FOK' THEN 'fok_unfillable'
                            WHEN i.type = 'market' AND d.take = 0 THEN 'no_liquidity' END
                   END AS reject_code,
                   -- Nothing in an id, a code or a number needs escaping.
                   CASE WHEN d.take > 0
                        THEN format('[{"fill_id": "%s-%s", "price": "%s", "quantity": "%s"}]', d.symbol,
                                    lpad((q.sequence + d.fills_before + 1)::text, 12, '0'), trim_scale(d.our_price), trim_scale(d.take))
                        ELSE '[]' END AS executions
              FROM decided d JOIN item i ON i.ord = d.ord JOIN exchange_quote q ON q.symbol = d.symbol
              LEFT JOIN (SELECT symbol, min(ord) AS ord FROM decided WHERE NOT is_decided GROUP BY symbol) undecided
                     ON undecided.symbol = d.symbol
             WHERE NOT d.is_cancel AND d.ord < coalesce(undecided.ord, 1001)
             ORDER BY d.symbol, d.ord
        ), answered AS MATERIALIZED (
            SELECT *, format('{"client_order_id": "%s", "status": "%s", "filled_quantity": "%s", "remaining_quantity": "%s",'
                             ' "average_price": %s, "fills": %s, "reject_code": %s}',
                             client_order_id, status, trim_scale(take), trim_scale(quantity - take),
                             CASE WHEN take > 0 THEN '"' || trim_scale(round(our_price, 10)) || '"' ELSE 'null' END, executions,
                             coalesce('"' || reject_code || '"', 'null')) AS answer
              FROM placed
        ), ordered AS (
            INSERT INTO exchange_order (client_order_id, symbol, side, type, time_in_force, price, quantity, filled_quantity,
                                        filled_notional, status, reject_code, fills, first_answer, step, tick_size, lot_size, created_at,
                                        updated_at)
            SELECT client_order_id, symbol, side, type, time_in_force, price, quantity, take,
                   CASE WHEN take > 0 THEN take * our_price ELSE 0 END, status, reject_code, executions::jsonb,
                   CASE WHEN rests THEN answer::jsonb END, step, tick_size, lot_size, v_at, v_at
              FROM answered
        ), told AS (
            INSERT INTO journal_activity (at, kind, symbol, data)
            SELECT v_at, 'order', symbol,
                   jsonb_build_object('client_order_id', client_order_id, 'status', status, 'side', side, 'type', type,
                                      'time_in_force', time_in_force, 'price', trim_scale(price)::text,
                                      'quantity', trim_scale(quantity)::text, 'reject_code', reject_code)
              FROM answered WHERE status <> 'filled'
        ), lessened AS (
            UPDATE exchange_quote q
               SET sequence = q.sequence + n.fills,
                   bid_price = CASE WHEN q.bid_quantity > n.sold THEN q.bid_price END,
                   bid_quantity = nullif(q.bid_quantity - n.sold, 0),
                   ask_price = CASE WHEN q.ask_quantity > n.bought THEN q.ask_price END,
                   ask_quantity = nullif(q.ask_quantity - n.bought, 0),
                   book_bid = greatest(q.book_bid, n.bid), book_ask = least(q.book_ask, n.ask)
              FROM (SELECT symbol, count(*) FILTER (WHERE take > 0) AS fills,
                           coalesce(sum(take) FILTER (WHERE buys), 0) AS bought,
                           coalesce(sum(take) FILTER (WHERE NOT buys), 0) AS sold,
                           max(price) FILTER (WHERE rests AND buys) AS bid, min(price) FILTER (WHERE rests AND NOT buys) AS ask
                      FROM placed GROUP BY symbol) n
             WHERE q.symbol = n.symbol AND (n.fills > 0 OR num_nonnulls(n.bid, n.ask) > 0)
        )
        SELECT array_agg(ord) AS ords, array_agg(answer) AS answers,
               array_agg(symbol) FILTER (WHERE take > 0) AS symbols,
               array_agg(fill_sequence) FILTER (WHERE take > 0) AS sequences,
               array_agg(CASE WHEN buys THEN -take ELSE take END) FILTER (WHERE take > 0) AS signed_quantities,
               array_agg(our_price) FILTER (WHERE take > 0) AS prices,
               array_agg(client_order_id) FILTER (WHERE take > 0) AS client_order_ids,
               array_agg(version) FILTER (WHERE take > 0) AS quote_versions,
               array_agg(quote_epoch) FILTER (WHERE take > 0) AS epochs,
               array_agg(quote_incarnation) FILTER (WHERE take > 0) AS incarnations,
               array_agg(quote_node) FILTER (WHERE take > 0) AS nodes,
               array_agg(tick_size) FILTER (WHERE take > 0) AS tick_sizes,
               array_agg(lot_size) FILTER (WHERE take > 0) AS lot_sizes
          INTO f FROM answered;
        v_ords := v_ords || f.ords;
        v_answers := v_answers || f.answers;
        IF f.symbols IS NOT NULL
           AND ledger_record_fills_v1(v_at, f.symbols, f.sequences, f.signed_quantities, f.prices, f.client_order_ids,
                                      f.quote_versions, f.epochs, f.incarnations, f.nodes, f.tick_sizes, f.lot_sizes)
               <> cardinality(f.symbols) THEN
            RAISE EXCEPTION 'the ledger knows some of these fills';
        END IF;
        v_filled := f.symbols;
    END IF;

    -- 3. What is left, one after another.
    IF cardinality(v_ords) < jsonb_array_length(p_orders) THEN
        FOR r IN SELECT e.ord, e.item FROM jsonb_array_elements(p_orders) WITH ORDINALITY AS e (item, ord)
                   LEFT JOIN unnest(v_ords) AS done (ord) ON done.ord = e.ord WHERE done.ord IS NULL ORDER BY e.ord LOOP
            v_answer := CASE
                WHEN r.item ? 'cancel' THEN exchange_cancel_order_v2(r.item ->> 'cancel')
                ELSE exchange_submit_order_v3(
                    r.item ->> 'client_order_id', r.item ->> 'symbol', r.item ->> 'side', r.item ->> 'type',
                    r.item ->> 'time_in_force', (r.item ->> 'price')::numeric, (r.item ->> 'quantity')::numeric,
                    (r.item ->> 'step')::bigint)
            END;
            v_ords := v_ords || r.ord;
            v_answers := v_answers || v_answer::text;
            IF v_answer #> '{fills,0}' IS NOT NULL THEN
                v_filled := v_filled || (r.item ->> 'symbol');
            END IF;
        END LOOP;
    END IF;
    -- As in exchange_submit_order_v3, for all of them: the last may have waited long after the first was filled. What traded beside
    -- a quote that had lapsed before, with a resting order, is as it should be.
    IF EXISTS (SELECT FROM exchange_quote WHERE symbol = ANY (ARRAY (SELECT unnest(v_filled) INTERSECT SELECT unnest(v_live)))
                  AND valid_until <= clock_timestamp()) THEN
        RAISE EXCEPTION 'a quote lapsed while it was filled' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN (SELECT '[' || coalesce(string_agg(answer, ', ' ORDER BY ord), '') || ']'
              FROM unnest(v_ords, v_answers) AS a (ord, answer))::json;
END
$$;
