"""Bugs of orders, matching, fills, positions, the kill switch and the clock (I6 to I9, I12, I13, I15)."""

from __future__ import annotations

from tests.planted.bug import bug

ORDERS = "tests/database/test_races_orders.py::"
SWITCH = "tests/database/test_races_switch.py::"
RULES = "tests/database/test_exchange.py::"
SERVICES_TESTS = "tests/database/test_services.py::"
API_ORDERS = "tests/web/test_api_orders.py::"
HOLDS = "[holds]"

SUBMIT = "exchange/sql/exchange_submit_order_v3.sql"
MATCH = "exchange/sql/exchange_match_order_v2.sql"
MATCH_QUOTE = "exchange/sql/exchange_match_quote_v2.sql"
BATCH = "exchange/sql/exchange_submit_orders_v4.sql"
REPLACE = "exchange/sql/exchange_replace_quotes_v3.sql"
PLACE = "exchange/sql/exchange_place_order_v3.sql"
PLACE_MANY = "exchange/sql/exchange_place_orders_v3.sql"
CANCEL = "exchange/sql/exchange_cancel_order_v2.sql"
SET_QUOTING = "exchange/sql/exchange_set_quoting_v2.sql"
CLOCK = "exchange/sql/exchange_advance_clock_v1.sql"
RECORD = "ledger/sql/ledger_record_fill_v2.sql"
RECORD_MANY = "ledger/sql/ledger_record_fills_v1.sql"
SERVICES = "exchange/services.py"

MATCHING = (
    bug(
        "book: the worse price first",
        MATCH,
        ("ORDER BY CASE WHEN v_buys THEN price ELSE -price END, id LIMIT 1;", "ORDER BY price, id LIMIT 1;"),
        world="A seller is paid the lowest bid of the book.",
        caught_by=f"{RULES}test_the_best_price_of_the_book_trades_first_and_at_its_own_price[buy-sell-99-99.5]",
        shows="the worse price went first",
    ),
    bug(
        "book: the younger first",
        MATCH,
        ("THEN price ELSE -price END, id LIMIT 1;", "THEN price ELSE -price END, id DESC LIMIT 1;"),
        world="Who came first is served last.",
        caught_by=f"{RULES}test_of_two_orders_at_one_price_the_older_trades_first[buy-sell]",
        shows="the younger went first",
    ),
    bug(
        "book: at the taker's price",
        MATCH,
        ("v_price := m.price;", "v_price := coalesce(p_price, m.price);"),
        world="Whoever is ready to pay more does pay more.",
        caught_by=f"{RULES}test_the_best_price_of_the_book_trades_first_and_at_its_own_price[sell-buy-101-100.5]",
        shows="not at the resting side's price",
    ),
    bug(
        "quote: before older orders at its price",
        MATCH,
        ("OR q.price = m.price AND q.arrival < m.id)", "OR q.price = m.price)"),
        world="Our own quote steps in front of clients who were there before it.",
        caught_by=f"{RULES}test_a_quote_stands_behind_the_orders_that_rested_at_its_price_before_it",
        shows="the quote stepped in front",
    ),
    bug(
        "quote: resting orders out of turn",
        MATCH_QUOTE,
        ("ORDER BY CASE v_side WHEN 'buy' THEN price ELSE -price END, id\n", "ORDER BY price, id\n"),
        world="A quote that crosses the book sells to the lowest bidder first.",
        caught_by=f"{RULES}test_a_quote_that_crosses_trades_with_the_oldest_of_the_best_price_first",
        shows="traded out of turn",
    ),
    bug(
        "quote: a side used up trades on",
        MATCH_QUOTE,
        (
            "coalesce(CASE v_side WHEN 'buy' THEN q.bid_quantity ELSE q.ask_quantity END, 0));",
            "CASE v_side WHEN 'buy' THEN q.bid_quantity ELSE q.ask_quantity END);",
        ),
        world="A quote for 100 that crosses bids for 300 sells 300: least() passes over a null.",
        caught_by=f"{RULES}test_a_quote_that_crosses_never_trades_more_than_its_size",
        shows="sold 300 of a quote for 100",
    ),
    bug(
        "order: all or nothing, or some",
        MATCH,
        ("IF p_time_in_force = 'FOK' AND p_quantity >", "IF p_time_in_force = 'FOK' AND 2 * v_left <"),
        world="An order that was to be filled whole or not at all is filled in part.",
        caught_by=f"{RULES}test_an_order_for_all_or_nothing_that_finds_too_little_trades_nothing",
        shows="fok_unfillable",
    ),
    bug(
        "order: book looked at before the lock",
        SUBMIT,
        (
            "(book_ask > ask_price) IS NOT FALSE",
            "NOT EXISTS (SELECT FROM exchange_order o WHERE o.symbol = p_symbol AND o.side = 'sell'"
            " AND o.status = 'resting' AND o.price <= ask_price)",
        ),
        world="An order that waits for a better-priced one to rest passes it over.",
        caught_by=f"{ORDERS}test_an_order_that_waits_for_one_that_rests_before_the_quote_trades_with_that_one_first{HOLDS}",
        shows="passed over the better price",
    ),
    bug(
        "order: a resting one not noted",
        MATCH,
        (
            "IF v_resting IS NOT NULL OR v_status IN ('resting', 'partially_filled') THEN",
            "IF v_resting IS NOT NULL THEN",
        ),
        world="What rests in the book is invisible to every later order.",
        caught_by=f"{RULES}test_of_two_orders_at_one_price_the_older_trades_first[sell-buy]",
        shows="the younger went first: {}",
    ),
    bug(
        "order: lapsed quote filled",
        SUBMIT,
        ("IF q.valid_until <= clock_timestamp() THEN", "IF false THEN"),
        world="A quote that nobody refreshes is filled after its time, at a price of long ago.",
        caught_by=f"{ORDERS}test_an_order_that_waits_for_a_lock_whose_holder_changes_nothing_is_not_filled_late{HOLDS}",
        shows="filled against a lapsed quote",
    ),
    bug(
        "order: lapsed quote filled, the general way",
        MATCH,
        ("IF v_recorded IS NOT NULL AND q.valid_until <= clock_timestamp() THEN", "IF false THEN"),
        world="An order that waits for its position commits a fill seconds after the quote's end.",
        caught_by=f"{ORDERS}test_an_order_that_waits_for_the_position_until_the_quote_has_lapsed_is_not_filled"
        "[holds: the general way]",
        shows="filled against a lapsed quote",
    ),
    bug(
        "batch: lapsed quote filled",
        BATCH,
        ("AND valid_until <= clock_timestamp()) THEN", "AND false) THEN"),
        world="The same for all of a batch, whose fills even say that they were made in time.",
        caught_by=f"{ORDERS}test_a_batch_whose_last_order_waits_until_a_quote_has_lapsed_fills_nothing_against_it{HOLDS}",
        shows="filled against a lapsed quote",
    ),
    bug(
        "order: what is left judged before the lock",
        SUBMIT,
        (
            "AND ask_quantity > p_quantity",
            "AND (SELECT ask_quantity FROM exchange_quote WHERE symbol = p_symbol) > p_quantity",
        ),
        world="Two takers of the last lots both get them; the size goes below zero.",
        caught_by=f"{ORDERS}test_two_takers_of_more_than_there_is_get_what_there_is{HOLDS}",
        shows="mm_amount",
    ),
    bug(
        "batch: quotes not locked",
        BATCH,
        (
            "WHERE symbol = ANY (v_locked) ORDER BY symbol FOR UPDATE) l;",
            "WHERE symbol = ANY (v_locked) ORDER BY symbol) l;",
        ),
        world="A task's orders and a client's are promised the same lots, and the whole batch fails, again and again.",
        caught_by=f"{RULES}test_a_batch_that_waits_for_an_order_takes_what_that_one_left{HOLDS}",
        shows="the batch failed|sold twice what was left",
    ),
    bug(
        "cancel: without the symbol's lock",
        CANCEL,
        ("PERFORM 1 FROM exchange_quote WHERE symbol = v_symbol FOR UPDATE;", ""),
        ("PERFORM exchange_note_book_v1(v_symbol);", ""),
        world="An order that its owner was told is cancelled trades after that.",
        caught_by=f"{ORDERS}test_an_order_being_cancelled_trades_no_more{HOLDS}",
        shows="traded with a cancelled order",
    ),
    bug(
        "quote: beyond the limit on the selling side",
        REPLACE,
        ("OR p.quantity - i.ask_quantity < -s.position_limit THEN", "THEN"),
        world="A node with a mistake in its sums sells without end.",
        caught_by=f"{RULES}test_a_quote_is_judged_by_its_prices_and_by_what_the_position_would_become[bid5-ask5-over_limit]",
        shows="judged accepted, not over_limit",
    ),
    bug(
        "quote: > for >=",
        REPLACE,
        ("WHEN i.bid_price >= i.ask_price THEN 'crossed'", "WHEN i.bid_price > i.ask_price THEN 'crossed'"),
        world="A bid at our own ask: the whole batch of quotes fails by the table's constraint.",
        caught_by=f"{RULES}test_a_quote_is_judged_by_its_prices_and_by_what_the_position_would_become[bid0-ask0-crossed]",
        shows="quote_not_crossed|not_crossed",
    ),
    bug(
        "quote: >= for >",
        REPLACE,
        ("WHEN p.quantity + i.bid_quantity > s.position_limit", "WHEN p.quantity + i.bid_quantity >= s.position_limit"),
        world="A position can't be taken to its limit: the last lot is refused for ever, and the node tries for ever.",
        caught_by=f"{RULES}test_a_quote_is_judged_by_its_prices_and_by_what_the_position_would_become[bid3-ask3-accepted]",
        shows="judged over_limit, not accepted",
    ),
)

IDEMPOTENCE = (
    bug(
        "order again: taken again",
        SUBMIT,
        ("AND NOT EXISTS (SELECT FROM exchange_order WHERE client_order_id = p_client_order_id)", "", 2),
        world="A client that sends again because the answer was lost gets an error for an order that is in force.",
        caught_by=f"{RULES}test_the_same_order_again_takes_nothing_more_of_the_quote",
        shows="UniqueViolation",
    ),
    bug(
        "order again: present state for first answer",
        MATCH,
        (
            "RETURN coalesce(v_known.first_answer, exchange_order_answer_v1(v_known));",
            "RETURN exchange_order_answer_v1(v_known);",
        ),
        world="The same order again answers something else than the first time.",
        caught_by="tests/web/test_api_orders.py::"
        "test_a_resting_order_sent_again_answers_its_first_answer_and_get_its_present_state",
        shows="assert b.*client_or.* == b",
    ),
    bug(
        "order again: another under its id",
        MATCH,
        (
            "v_known.time_in_force, v_known.price, v_known.quantity)",
            "v_known.time_in_force, v_known.price, p_quantity)",
        ),
        world="A client that uses an id twice is told that its new order was filled, and it never was.",
        caught_by="tests/web/test_api_orders.py::test_another_order_under_the_same_id_is_a_conflict",
        shows="quantity",
    ),
    bug(
        "order again: the race for an id lost",
        SERVICES,
        (
            "    try:\n        answer = retrying(command)\n    except IntegrityError:\n"
            "        # The same id at the same moment: that one has committed, and now is what we are judged by.\n"
            "        answer = retrying(command)\n",
            "    answer = retrying(command)\n",
        ),
        world="Two orders under one id at the same moment: one of them is answered with a 500.",
        caught_by="tests/web/test_api_orders.py::test_one_id_sent_to_two_symbols_at_once_becomes_one_order",
        shows="KeyError: 'api'|assert .500|UniqueViolation",
    ),
    bug(
        "fill: out of sequence",
        RECORD,
        ("WHERE symbol = p_symbol AND version = p_sequence - 1\n", "WHERE symbol = p_symbol\n"),
        world="A fill handed in twice moves the position twice, or fails instead of saying so.",
        caught_by=f"{ORDERS}test_the_same_fill_recorded_twice_at_once_moves_the_position_once{HOLDS}",
        shows="UniqueViolation",
    ),
    bug(
        "fill: contents not compared",
        RECORD,
        ("IF (v_known.side, v_known.price, v_known.quantity,", "IF (p_side, p_price, p_quantity,"),
        world="Another fill under a known id is taken for the known one, and lost.",
        caught_by=f"{ORDERS}test_another_fill_under_a_known_id_raises_and_moves_nothing{HOLDS}",
        shows="another fill under a known id",
    ),
    bug(
        "fills in a set: whatever their numbers",
        RECORD_MANY,
        ("f.sequence = p.version + row_number() OVER w AS is_next", "true AS is_next"),
        world="A set of fills handed in twice fails, or leaves a gap in what the position counts.",
        caught_by=f"{RULES}test_fills_in_a_set_that_would_leave_a_gap_are_refused",
        shows="DID NOT RAISE",
    ),
    bug(
        "fill: not in the order's commit",
        SUBMIT,
        ("IF ledger_record_fill_v2(", "IF p_quantity < 0 AND ledger_record_fill_v2("),
        world="Orders and quote say that it was filled; the ledger knows of nothing until somebody brings it the fill.",
        caught_by=f"{ORDERS}test_two_orders_at_once_on_one_symbol_are_two_fills_in_sequence{HOLDS}",
        shows="assert \\[\\] == \\[1, 2\\]",
    ),
    bug(
        "position: cost taken away at the trade's price",
        RECORD,
        ("ELSE cost - round(cost * p_quantity / abs(quantity), 10) END,", "ELSE cost + v_signed * p_price END,"),
        world="Profits are never realised: selling half at a gain makes the other half look cheaper.",
        caught_by=f"{RULES}test_a_position_that_is_reduced_keeps_its_average_cost",
        shows="average cost and realised P&L: \\(90, 0\\)",
    ),
    bug(
        "acknowledged before it is on disk",
        PLACE,
        ("    v_unused := pg_catalog.pg_logical_emit_message(true, '', '');\n", ""),
        world="A crash takes back an order that its owner was told of.",
        caught_by=f"{SERVICES_TESTS}test_an_answered_order_is_on_disk",
        shows="assert \\(False,\\) == \\(True,\\)",
    ),
    bug(
        "acknowledged in a batch before it is on disk",
        PLACE_MANY,
        ("    v_unused := pg_catalog.pg_logical_emit_message(true, '', '');\n", ""),
        world="The same for many at once.",
        caught_by=f"{SERVICES_TESTS}test_an_answered_order_is_on_disk",
        shows="assert \\(False,\\) == \\(True,\\)",
    ),
    bug(
        "doorbell: rung before the commit",
        PLACE,
        (
            "    COMMIT;\n    IF v_is_filled THEN\n        RAISE NOTICE USING ERRCODE = 'MM100', MESSAGE = 'filled';\n"
            "    END IF;\n",
            "    IF v_is_filled THEN\n        RAISE NOTICE USING ERRCODE = 'MM100', MESSAGE = 'filled';\n"
            "    END IF;\n    COMMIT;\n",
        ),
        world="The holder is woken, sees no fill yet, and quotes the old size until its next look.",
        caught_by="tests/web/test_api_orders.py::test_a_fill_is_rung_for_while_its_order_waits_for_the_disk",
        shows="\\(0,\\)",
    ),
)

KILL_SWITCH = (
    bug(
        "switch: without the lock",
        SET_QUOTING,
        ("ORDER BY q.symbol FOR UPDATE) l;", "ORDER BY q.symbol) l;"),
        world="A quote in flight outlives the switch that was to end it.",
        caught_by=f"{SWITCH}test_quoting_off_waits_for_the_order_in_flight_and_comes_after_its_fill{HOLDS}",
        shows="filled after the kill",
    ),
    bug(
        "switch: quote not withdrawn",
        SET_QUOTING,
        ("IF NOT p_enabled THEN", "IF p_enabled THEN"),
        world="Off is refused by the table's constraint, and the operator can't stop the market.",
        caught_by=f"{SWITCH}test_quoting_off_waits_for_the_quote_in_flight_and_withdraws_it{HOLDS}",
        shows="i12_kill_is_final",
    ),
    bug(
        "switch: not asked by the replace",
        REPLACE,
        ("WHEN NOT q.quoting_enabled THEN 'quoting_disabled'", ""),
        world="One symbol that is off takes the quotes of all others in its batch with it.",
        caught_by=f"{SWITCH}test_a_quote_that_waits_for_quoting_off_is_refused{HOLDS}",
        shows="i12_kill_is_final",
    ),
    bug(
        "switch: audited only when it changes something",
        SET_QUOTING,
        (
            "FROM unnest(v_locked, v_before) AS i (symbol, before);\n    INSERT INTO journal_activity",
            "FROM unnest(v_locked, v_before) AS i (symbol, before) WHERE i.before <> p_enabled;\n"
            "    INSERT INTO journal_activity",
        ),
        world="Nobody can tell who pressed the switch in vain, and when.",
        caught_by=f"{RULES}test_each_throw_of_the_switch_is_audited_also_one_that_changes_nothing",
        shows="quoting_off",
    ),
    bug(
        "switch: fails as a whole",
        SET_QUOTING,
        (
            "EXCEPTION WHEN lock_not_available THEN\n        -- One",
            "EXCEPTION WHEN raise_exception THEN\n        -- One",
        ),
        world="One row that somebody keeps locked, and the operator can stop nothing.",
        caught_by=f"{API_ORDERS}test_the_kill_switch_stops_all_but_what_somebody_keeps_locked_and_names_it",
        shows="symbols_locked",
    ),
    bug(
        "switch: leaves out what is only busy",
        SET_QUOTING,
        ("IF v_wait_ms > 0 THEN", "IF false THEN"),
        world="While one row is locked, a symbol with many orders can't be stopped either.",
        caught_by=f"{API_ORDERS}test_the_kill_switch_waits_for_what_is_only_busy",
        shows="BRAVO",
    ),
    bug(
        "limit: lowered below the live quote",
        "exchange/sql/exchange_set_parameters_v1.sql",
        ("OR p.quantity - q.ask_quantity < -n.position_limit)) THEN", "OR false) AND false) THEN"),
        world="A quote from before goes on taking the position past the limit that an operator has just set.",
        caught_by="tests/database/test_limits.py::"
        "test_a_lowered_limit_binds_the_live_quote_in_the_same_commit[0-withdrawn0]",
        shows="parameters",
    ),
)

STEPS = (
    bug(
        "clock: row not locked",
        CLOCK,
        ("FROM exchange_clock FOR UPDATE;", "FROM exchange_clock;"),
        world="Two beats at once take a step twice, with two prices.",
        caught_by=f"{ORDERS}test_a_clock_advanced_by_two_at_once_takes_one_step{HOLDS}",
        shows="the second (took the step|advanced it) again",
    ),
    bug(
        "clock: any later step",
        CLOCK,
        ("IF p_step <> c.step + 1 OR", "IF p_step <= c.step OR"),
        world="A step is skipped, and its orders come without its prices.",
        caught_by=f"{RULES}test_the_clock_takes_no_step_before_the_one_that_is_next",
        shows="it took step 2 first",
    ),
    bug(
        "clock: before it is due",
        CLOCK,
        ("OR clock_timestamp() < c.due_at - v_tick / 2 THEN", "THEN"),
        world="With two workers the market runs at twice its speed.",
        caught_by=f"{RULES}test_the_clock_takes_no_step_before_it_is_due_whoever_asks",
        shows="a minute early",
    ),
    bug(
        "clock: an outage replayed",
        CLOCK,
        ("due_at = greatest(c.due_at, clock_timestamp() - v_tick) + v_tick;", "due_at = c.due_at + v_tick;"),
        world="After an hour's outage an hour of prices and orders comes within seconds.",
        caught_by=f"{SERVICES_TESTS}test_an_outage_is_not_replayed",
        shows="<= 2",
    ),
    bug(
        "clock: symbols added beside it",
        "exchange/sql/exchange_clock_step_v1.sql",
        ("FROM exchange_clock FOR SHARE;", "FROM exchange_clock;"),
        world="A symbol added while the clock advances lacks the orders of one step for ever.",
        caught_by=f"{RULES}test_a_symbol_that_is_added_while_the_clock_advances_begins_with_the_step_after{HOLDS}",
        shows="added at step 0 while the clock was on its way to 1",
    ),
    bug(
        "steps: noted out of order",
        "exchange/sql/exchange_orders_done_v1.sql",
        ("WHERE orders_step = p_step - 1 AND", "WHERE orders_step < p_step AND"),
        world="A slow worker's step is passed over as done, and its orders never come.",
        caught_by=f"{RULES}test_steps_are_noted_as_done_one_after_another_and_never_before_they_are_taken",
        shows="after step 2: done to 2, not 0",
    ),
    bug(
        "steps: noted before their orders",
        SERVICES,
        (
            "    for step in range(clock.orders_step + 1, last + 1):\n",
            "    for step in range(clock.orders_step + 1, last + 1):\n"
            '        query.value("SELECT exchange_orders_done_v1(%s)", [step])\n',
        ),
        world="A worker killed half-way leaves a step without some of its orders, and nobody looks again.",
        caught_by=f"{SERVICES_TESTS}test_a_worker_killed_half_way_leaves_nothing_out_and_nothing_twice[1]",
        shows="ext-",
    ),
    bug(
        "steps: order flow by Python's hash",
        "exchange/orderflow.py",
        (
            'draw = blake2b(f"{seed}/{symbol}/{step}".encode(), digest_size=4, person=b"mm-orders").digest()',
            'draw = (hash(f"{seed}/{symbol}/{step}") & 0xFFFFFFFF).to_bytes(4, "big")',
        ),
        world="A task that runs again in another process brings other orders for the same step.",
        caught_by="tests/unit/test_determinism.py::test_another_hash_seed_gives_the_same_market[0]",
        shows="b0bc2a852b54ec578d002a4ed67e26db",
    ),
    bug(
        "steps: waits for what is locked with all others",
        PLACE_MANY,
        ("    v_unused := pg_catalog.set_config('lock_timeout', p_lock_ms::text, true);\n", ""),
        world="One row that somebody keeps locked, and nothing is quoted for as long as the worker waits for it.",
        caught_by=f"{SERVICES_TESTS}test_a_batch_that_cannot_lock_all_its_symbols_lets_go_of_them_soon",
        shows="due to statement timeout",
    ),
    bug(
        "steps: one locked symbol fails them all",
        SERVICES,
        ("        if sqlstate(error) != LOCKED:\n            raise\n    else:", "        raise\n    else:"),
        world="One row that somebody keeps locked, and no symbol has customers any more.",
        caught_by=f"{SERVICES_TESTS}test_a_step_is_not_done_without_the_orders_of_a_symbol_that_somebody_keeps_locked",
        shows="lock timeout",
    ),
    bug(
        "steps: done without the orders of a locked symbol",
        SERVICES,
        (
            "            held_up.remove(symbol)\n    return held_up\n",
            "            held_up.remove(symbol)\n    return []\n",
        ),
        world="Its customers' orders of those steps never come, and nobody can tell.",
        caught_by=f"{SERVICES_TESTS}test_a_step_is_not_done_without_the_orders_of_a_symbol_that_somebody_keeps_locked",
        shows="nothing is done that was not sent",
    ),
    bug(
        "steps: a failed task blocks all later ones",
        "exchange/tasks.py",
        (
            "    try:\n        services.advance_clock()\n        services.place_external_orders()\n    finally:\n"
            "        _at_work.release()\n",
            "    services.advance_clock()\n    services.place_external_orders()\n    _at_work.release()\n",
        ),
        world="After one error the worker answers every beat and the market stands still.",
        caught_by=f"{SERVICES_TESTS}test_a_tick_after_a_failed_one_runs",
        shows="assert 0 > 0",
    ),
)

BUGS = (*MATCHING, *IDEMPOTENCE, *KILL_SWITCH, *STEPS)
