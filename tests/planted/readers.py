"""Bugs of those who read and of those who guard: the stream, the API's logs, verify's own checks, roles and rights."""

from __future__ import annotations

from tests.planted.bug import bug

STREAM = "tests/web/test_stream.py::"
READS = "tests/web/test_api_reads.py::"
VERIFY = "tests/database/test_verify.py::"
PLANT = f"{VERIFY}test_a_planted_violation_is_caught_by_its_name"
ROLES = "tests/database/test_roles.py::"

BELOW_HORIZON = " AND xid < pg_snapshot_xmin(pg_current_snapshot())"

LOGS = (
    bug(
        "stream: beyond the horizon",
        "console/sql/activity_after.sql",
        (f"{BELOW_HORIZON}\n", "\n"),
        world="A page that reads on never sees what a slow transaction committed later under a lower number.",
        caught_by=f"{STREAM}test_a_reader_that_resumes_misses_nothing_that_a_slow_transaction_held_back",
        shows="shown only when nothing can come before it any more",
    ),
    bug(
        "stream: its position told twice",
        "console/stream/hub.py",
        (
            "[entry for entry in self.activity if entry[0] > cursor]",
            "[entry for entry in self.activity if entry[0] >= cursor]",
        ),
        world="A page that comes back shows the last thing it saw once more.",
        caught_by=f"{STREAM}test_a_page_that_comes_back_at_once_is_told_what_it_missed_and_nothing_twice",
        shows="assert \\[",
    ),
    bug(
        "stream: position at the first of what was read",
        "console/stream/hub.py",
        ("self.cursor = reading.activity[-1][0]", "self.cursor = reading.activity[0][0]"),
        world="Everything is shown twice, and then again.",
        caught_by=f"{STREAM}test_a_reader_that_stays_sees_the_same",
        shows="assert \\[",
    ),
    bug(
        "stream: doorbell taken as the truth",
        "console/stream/reader.py",
        ("async with asyncio.timeout(self.limits.timer_s):", "async with asyncio.timeout(None):"),
        world="One lost notification, and every page shows yesterday's market until something else rings.",
        caught_by=f"{STREAM}test_what_rings_no_doorbell_is_seen_by_the_timer",
        shows="nothing is read before a doorbell rings",
    ),
    bug(
        "stream: silence about what was left out",
        "console/stream/hub.py",
        ("            self._skipped += 1\n", ""),
        world="A slow page looks complete and isn't.",
        caught_by=f"{STREAM}test_what_a_slow_client_did_not_get_is_counted",
        shows="KeyError: 'skipped'",
    ),
    bug(
        "stream: a gap that is not told",
        "console/stream/reader.py",
        ("            gap = missed is None\n", "            gap = False\n"),
        world="A page that was away for too long goes on as if it had missed nothing.",
        caught_by=f"{STREAM}test_too_much_to_catch_up_with_is_flagged",
        shows="assert False is True",
    ),
    bug(
        "API: fills beyond the horizon",
        "ledger/selectors.py",
        (
            f'(%s::text::xid8, %s){BELOW_HORIZON}"\n        " ORDER BY xid, activity_id',
            '(%s::text::xid8, %s)"\n        " ORDER BY xid, activity_id',
        ),
        world="A client that pages through the fills misses one, and its book is wrong for ever.",
        caught_by=f"{READS}test_a_fill_still_uncommitted_holds_back_those_that_would_overtake_it",
        shows="assert \\[.*\\] == \\[",
    ),
    bug(
        "API: activity beyond the horizon",
        "ledger/selectors.py",
        (f'(%s::text::xid8, %s){BELOW_HORIZON}"\n        "   AND', '(%s::text::xid8, %s)"\n        "   AND'),
        world="The same for the activity.",
        caught_by=f"{READS}test_a_fill_still_uncommitted_holds_back_those_that_would_overtake_it",
        shows="assert set\\(\\) >= ",
    ),
)

CHECKERS = (
    bug(
        "verify: I1 looks at epochs only",
        "authority/verify.py",
        (
            "IS DISTINCT FROM (coalesce(l.epoch, 0), l.incarnation, l.node)",
            "IS DISTINCT FROM (q.epoch, l.incarnation, l.node)",
        ),
        world="A fence that names another epoch than the lease goes unseen.",
        caught_by=f"{PLANT}[I1 the fence in front of a symbol's quote names the lease's holder and epoch]",
        shows="I1 one-lease",
    ),
    bug(
        "verify: I4 forgives a late commit",
        "authority/verify.py",
        (
            "AND (pg_xact_commit_timestamp(v.xmin) > g.next_granted_at OR",
            "AND (pg_xact_commit_timestamp(v.xmin) > g.next_granted_at + interval '1 day' OR",
        ),
        world="The very thing that fences are for would not be found: a stale write after the successor's grant.",
        caught_by=f"{PLANT}[I4 each quote committed after its own epoch's grant and before any later one's]",
        shows="I4 fenced-quotes",
    ),
    bug(
        "verify: I6 adds up quantities only",
        "ledger/verify.py",
        ("OR p.cash <> coalesce(f.cash, 0)\n", "\n"),
        world="Money could vanish.",
        caught_by=f"{PLANT}[I6 a position is the sum of its symbol's fills0]",
        shows="a position is as its last fill left it|assert False",
    ),
    bug(
        "verify: I8 forgets the quotes",
        "exchange/verify.py",
        ("WHERE f.quantity > coalesce(CASE f.side", "WHERE f.quantity > 1e15 + coalesce(CASE f.side"),
        world="A quote could be filled for more than it offered.",
        caught_by=f"{PLANT}[I8 the fills of a quote's side never exceed its size]",
        shows="I8 no-overfill|assert False",
    ),
    bug(
        "verify: I9 forgives a lapsed quote",
        "exchange/verify.py",
        ("WHEN filled_at >= valid_until THEN", "WHEN filled_at >= 'infinity' THEN"),
        world="Fills against quotes that nobody stood behind any more would pass.",
        caught_by=f"{PLANT}[I9 each fill lies within its quote and its order, both live then, on tick and on lot:"
        " after the quote had lapsed]",
        shows="I9 fair-fills|assert False",
    ),
    bug(
        "verify: I9 believes the fill's own time",
        "exchange/verify.py",
        ("WHEN committed_at >= valid_until + {COMMIT_ALLOWANCE} THEN", "WHEN committed_at >= 'infinity' THEN"),
        world="A fill that was stamped in time and committed seconds later would pass.",
        caught_by=f"{PLANT}[I9 each fill lies within its quote and its order, both live then, on tick and on lot:"
        " committed when the quote was long over]",
        shows="I9 fair-fills|assert False",
    ),
    bug(
        "verify: I10 counts orders only",
        "exchange/verify_flow.py",
        ('    for fill in answer["fills"]:\n', "    for fill in ():\n"),
        world="An acknowledged fill could be lost, and nobody would be told.",
        caught_by=f"{VERIFY}test_what_was_acknowledged_and_is_lost_is_named"
        "[UPDATE ledger_fill SET price = price * 2 WHERE client_order_id = 'c-takes'-fill ALFA-]",
        shows="'I10'.* assert False",
    ),
    bug(
        "verify: I12 looks the wrong way",
        "exchange/verify.py",
        ("AND committed_at > off_at AND committed_at < on_at", "AND committed_at < off_at AND committed_at < on_at"),
        world="A fill after the kill switch would pass.",
        caught_by=f"{PLANT}[I12 nothing is quoted and nothing filled between the commits of off and on: fill ALFA]",
        shows="I12 kill-is-final|assert False",
    ),
    bug(
        "verify: I15 doesn't miss what is missing",
        "exchange/verify_flow.py",
        ("        if orders.get(step, 0) != expected:\n", "        if orders.get(step, 0) > expected:\n"),
        world="A step that a killed worker left without its orders would pass.",
        caught_by=f"{PLANT}[I15 each step's orders, computed again, are there exactly once: expected]",
        shows="'I15'.*assert False",
    ),
    bug(
        "verify: disabled triggers",
        "mmproject/invariants.py",
        ("AND tgname = wanted AND tgenabled IN ('O', 'A'))", "AND tgname = wanted)"),
        world="Somebody could switch the append-only logs off and leave no trace in the verdict.",
        caught_by=f"{VERIFY}test_a_constraint_or_trigger_that_is_gone_is_missed",
        shows="assert ",
    ),
    bug(
        "verify: of many moments",
        "mmproject/verify.py",
        ("psycopg.IsolationLevel.REPEATABLE_READ", "psycopg.IsolationLevel.READ_COMMITTED"),
        world="A busy market looks broken, because each check looks at another moment of it.",
        caught_by=f"{VERIFY}test_what_breaks_after_the_moment_that_is_judged_is_not_of_it",
        shows="I6 positions-add-up",
    ),
    bug(
        "verify: one component's checks left out",
        "mmproject/verify.py",
        (
            "(*authority.verify.CHECKS, *exchange.verify.CHECKS, *ledger.verify.CHECKS)",
            "(*authority.verify.CHECKS, *exchange.verify.CHECKS)",
        ),
        world="Positions are not looked at, and the verdict is that all holds.",
        caught_by=f"{VERIFY}test_each_check_has_a_violation_that_it_was_seen_to_catch",
        shows="Extra items in the left set",
    ),
    bug(
        "verify: an exit code that never fails",
        "mmproject/management/commands/verify.py",
        ("        if not ok:\n            sys.exit(1)\n", "        if not ok:\n            sys.exit(0)\n"),
        world="Whoever runs it in a script is told that all holds.",
        caught_by=f"{VERIFY}test_the_command_says_by_its_exit_code_whether_all_hold"
        "[UPDATE ledger_position SET cash = cash + 0.01]",
        shows="exit code 0",
    ),
)

RIGHTS = (
    bug(
        "rights: a function too many",
        "authority/migrations/0006_rows_that_somebody_keeps_locked.py",
        (
            'sql_function("authority_end_incarnation_v3", owner="mm_authority"),',
            'sql_function("authority_end_incarnation_v3", owner="mm_authority", execute=NODE),',
        ),
        world="A node can end its neighbours, alive or not.",
        caught_by=f"{ROLES}test_each_role_may_call_exactly_its_functions[mm_node]",
        shows="authority_end_incarnation_v3",
    ),
    bug(
        "rights: everybody's function",
        "mmproject/functions.py",
        ('statements = [body, f"REVOKE ALL ON ROUTINE {name} FROM PUBLIC;"]', "statements = [body]"),
        world="Every login can call every function, with the rights of its owner.",
        caught_by=f"{ROLES}test_each_role_may_call_exactly_its_functions[mm_node]",
        shows="Extra items in the left set",
    ),
    bug(
        "rights: a table too many",
        "exchange/migrations/0002_functions.py",
        (
            "GRANT INSERT ON exchange_quoteversion, exchange_trade TO mm_exchange;",
            "GRANT INSERT ON exchange_quoteversion, exchange_trade TO mm_exchange, mm_node;",
        ),
        world="A node can write trades into the history that never happened.",
        caught_by=f"{ROLES}test_each_role_has_exactly_its_rights_on_every_table[mm_node]",
        shows="INSERT exchange_trade: allowed",
    ),
    bug(
        "rights: search_path left open",
        "authority/sql/authority_release_v3.sql",
        ("LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp", "LANGUAGE plpgsql SECURITY DEFINER"),
        world="A caller puts a table of its own in front of ours, and has the owner's rights do what it likes.",
        caught_by=f"{ROLES}test_every_function_that_runs_with_its_owners_rights_pins_its_search_path",
        shows="authority_release_v3",
    ),
    bug(
        "rights: a log that can be changed",
        "mmproject/functions.py",
        ("BEFORE UPDATE OR DELETE ON {table}", "BEFORE DELETE ON {table}"),
        world="Fills and audit rows can be rewritten by whoever owns the tables.",
        caught_by=f"{ROLES}test_what_was_recorded_cannot_be_changed_by_the_tables_owner_either[a fill]",
        shows="DID NOT RAISE",
    ),
    bug(
        "rights: a node that may hang",
        "mmproject/provision.py",
        ('"idle_in_transaction_session_timeout": "1s",\n', '"idle_in_transaction_session_timeout": "30s",\n'),
        world="A node stopped inside a transaction blocks its successor for half a minute.",
        caught_by=f"{ROLES}"
        "test_a_node_that_is_stopped_inside_a_transaction_frees_its_locks_well_before_a_lease_is_over",
        shows="no limit below 3000",
    ),
)

BUGS = (*LOGS, *CHECKERS, *RIGHTS)
