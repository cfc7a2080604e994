"""Bugs of the node, of retries and of the doorbell: what a process believes, forgets, or does twice."""

from __future__ import annotations

from tests.planted.bug import bug

PARTS = "tests/database/test_node_parts.py::"
STATE = "tests/unit/test_node_state.py::"
QUOTING = "tests/unit/test_quoting.py::"
SESSION = "nodeagent/session.py"
QUOTER = "nodeagent/quoter.py"
RECONCILER = "nodeagent/reconciler.py"
HOLDINGS = "nodeagent/holdings.py"
AGENT = "nodeagent/agent.py"
CONNECTIONS = "nodeagent/connections.py"

BELIEF = (
    bug(
        "belief: counted from the answer",
        SESSION,
        ("self.belief.confirm(self._sent_at)", "self.belief.confirm(time.monotonic())"),
        world="A node whose network is slow believes in its leases for longer than the database does.",
        caught_by=f"{PARTS}test_a_renewal_that_is_answered_late_is_believed_from_when_it_was_sent",
        shows="which is longer than",
    ),
    bug(
        "belief: without its margin",
        SESSION,
        ("self._lasts_s = timing.ttl_s - timing.belief_margin_s", "self._lasts_s = timing.ttl_s"),
        world="A node whose clock is a little slow writes into the void for a while before it stops.",
        caught_by=f"{STATE}test_a_lease_is_believed_from_the_sending_of_the_renewal_for_the_ttl_less_the_margin",
        shows="2.7",
    ),
    bug(
        "belief: shortened by a late answer",
        SESSION,
        ("self._until = max(self._until, sent_at + self._lasts_s)", "self._until = sent_at + self._lasts_s"),
        world="Answers that come out of order stop a healthy node.",
        caught_by=f"{STATE}test_a_belief_that_has_lapsed_comes_back_with_a_renewal_and_never_gets_shorter",
        shows="2.7",
    ),
    bug(
        "belief: not asked before reading",
        QUOTER,
        ("if not symbols or not self.believes():\n", "if not symbols:\n"),
        ("if quotes and self.believes():\n", "if quotes:\n"),
        world="A node that is cut off goes on writing, and only the database's refusals stop it.",
        caught_by=f"{PARTS}test_nothing_is_quoted_under_a_belief_that_has_lapsed",
        shows="ConnectionLost|a belief that had lapsed",
    ),
    bug(
        "belief: not asked again before writing",
        QUOTER,
        (
            "            left_s = self._session.belief.left_s()\n            if quotes and self.believes():\n",
            "            left_s = STATEMENT_TIMEOUT_S\n            if quotes:\n",
        ),
        world="A node that was stopped between reading and writing writes on waking what is long out of date.",
        caught_by=f"{PARTS}test_nothing_is_quoted_when_the_belief_lapses_between_reading_and_writing",
        shows="a belief that had lapsed meanwhile",
    ),
    bug(
        "session: goes on after its end",
        SESSION,
        (
            '            if renewal is None:\n                return "ended or expired"\n',
            "            if renewal is None:\n                continue\n",
        ),
        world="A node that was swept renews in vain for ever, and its share of the market is with the others.",
        caught_by=f"{PARTS}test_a_session_that_was_swept_is_over_at_its_next_renewal",
        shows="it goes on renewing what has ended",
    ),
)

HOLDING = (
    bug(
        "holdings: kept after a refusal",
        QUOTER,
        (
            "                refused[symbol] = [held.epoch, outcome]\n                self._holdings.drop(symbol)\n",
            "                refused[symbol] = [held.epoch, outcome]\n",
        ),
        world="A node that lost a symbol tries to quote it again and again, and each refusal is written down.",
        caught_by=f"{PARTS}test_what_it_had_no_right_to_quote_is_held_no_longer",
        shows="still taken for its own",
    ),
    bug(
        "holdings: dropped after the release's answer",
        RECONCILER,
        (
            "        for symbol in surplus:\n            self._holdings.drop(symbol)\n"
            '        crash_point("release.before")\n'
            "        released = await client.release(\n"
            "            self._link, self._session.incarnation, list(surplus), wait=self._locked.isdisjoint(surplus)\n"
            "        )\n",
            "        released = await client.release(\n"
            "            self._link, self._session.incarnation, list(surplus), wait=self._locked.isdisjoint(surplus)\n"
            "        )\n"
            "        for symbol in surplus:\n            self._holdings.drop(symbol)\n",
        ),
        world="An answer that gets lost leaves a node in the belief that it holds what it has released.",
        caught_by=f"{PARTS}test_what_is_being_released_is_not_quoted_even_if_the_answer_gets_lost",
        shows="still taken for its own",
    ),
    bug(
        "holdings: a grant whose answer was lost",
        RECONCILER,
        (
            "            if symbol not in self._holdings:\n                self._holdings.put(symbol, epoch)\n",
            "            if symbol not in self._holdings and not symbol:\n"
            "                self._holdings.put(symbol, epoch)\n",
        ),
        world="A node holds a symbol without knowing it, and nobody quotes it.",
        caught_by=f"{PARTS}test_what_was_granted_is_found_by_the_tables_when_the_answer_got_lost",
        shows="held, and not known",
    ),
    bug(
        "holdings: the old epoch's memory",
        HOLDINGS,
        ("if held is None or held.epoch != epoch:", "if held is None:"),
        world="After a handover there and back the node quotes under its old epoch, and is refused.",
        caught_by=f"{STATE}test_a_new_epoch_forgets_what_was_quoted_under_the_old_one",
        shows="assert \\(1, 3, None\\) == \\(2, 0, None\\)",
    ),
    bug(
        "round: doubt forgotten",
        RECONCILER,
        ("asyncio.get_running_loop().call_later(STATEMENT_TIMEOUT_S, agenda.ask_compare)", "pass"),
        world="A grant that commits after its connection was given up is never found.",
        caught_by=f"{STATE}test_a_round_that_failed_is_doubted_once_more_when_its_statement_can_no_longer_act",
        shows="assert (False|await)",
    ),
    bug(
        "quote: skewed the wrong way",
        "nodeagent/quoting.py",
        ("over * share_under - parameters.skew_ticks", "over * share_under + parameters.skew_ticks"),
        world="The more we have, the more we pay for more: positions run to their limits.",
        caught_by=f"{QUOTING}test_a_long_position_moves_both_prices_down_by_its_share_of_the_skew",
        shows="100.05",
    ),
)

DOORBELLS = (
    bug(
        "doorbell: taken as the truth",
        AGENT,
        ("        if renewal.generation != self._reconciler.generation:\n            self.authority_rung()\n", ""),
        world="One lost notification, and a node keeps a symbol that is another's until it happens to look.",
        caught_by=f"{PARTS}test_a_node_that_hears_no_doorbell_follows_the_assignment_all_the_same",
        shows="it never heard that BRAVO is assigned to another",
    ),
    bug(
        "doorbell: what it names is believed",
        HOLDINGS,
        (
            'return [symbol for symbol in hint.split(",") if symbol in self._held]',
            'return hint.split(",")',
        ),
        world="Anybody who may notify can have a node look for symbols that do not exist.",
        caught_by=f"{STATE}test_a_doorbell_names_only_what_is_held_and_all_when_it_names_nothing",
        shows="NOPE",
    ),
    bug(
        "locks: a batch that failed is tried whole again",
        QUOTER,
        ("                    held.apart = True\n", "                    held.apart = False\n"),
        world="One session left open on one symbol's row, and none of its holder's symbols is quoted any more.",
        caught_by=f"{PARTS}test_a_symbol_whose_row_somebody_keeps_locked_holds_up_no_other",
        shows="TryAgain",
    ),
    bug(
        "locks: what was locked is forgotten",
        RECONCILER,
        ("call_later(BUSY_AGAIN_S, self._agenda.ask_claim)", "call_later(BUSY_AGAIN_S, lambda: None)"),
        world="A symbol whose row was locked when its node died is without a holder until something else happens.",
        caught_by=f"{PARTS}test_what_somebody_kept_locked_is_asked_for_until_it_comes",
        shows="it has stopped asking for what was locked",
    ),
    bug(
        "locks: a release of less than was asked for",
        RECONCILER,
        ("self._kept = set(surplus) - set(released)", "self._kept = set(surplus) - set(surplus)"),
        world="A symbol whose row was locked when it was to be handed over stays with a node that has forgotten it.",
        caught_by=f"{PARTS}test_what_it_could_not_give_back_at_once_is_given_back_later",
        shows="it keeps what was locked",
    ),
    bug(
        "doorbell: forgotten while a quote is under way",
        QUOTER,
        (
            "                self._take_in(outcomes, markets, quotes)\n",
            "                self._take_in(outcomes, markets, quotes)\n                self._agenda.first.clear()\n",
        ),
        world="A fill between a node's reading and its writing is not answered until the next refresh.",
        caught_by=f"{PARTS}test_what_changed_while_its_quote_was_under_way_is_quoted_again",
        shows="the doorbell was forgotten",
    ),
    bug(
        "doorbell: what is asked for while it rings",
        "mmproject/doorbell.py",
        ("symbols, self._pending = self._pending, set()", "symbols = set(self._pending)"),
        (
            "                self._notify_or_reconnect(target, payload(symbols))\n",
            "                self._notify_or_reconnect(target, payload(symbols))\n"
            "                self._pending.clear()\n",
        ),
        world="Fills that come while a ring is on its way are never rung for.",
        caught_by="tests/unit/test_doorbell.py::test_what_is_asked_for_while_a_ring_is_on_its_way_goes_into_the_next",
        shows="the second rings",
    ),
    bug(
        "doorbell: the ring that finds its connection lost",
        "mmproject/doorbell.py",
        (
            "            if not was_connected:\n                raise\n            self._disconnect()\n",
            "            if not was_connected:\n                raise\n",
        ),
        world="After a restart of the database the first fill is rung for in vain.",
        caught_by="tests/database/test_services.py::test_the_ring_that_finds_its_connection_lost_is_rung_all_the_same",
        shows="nothing was rung",
    ),
    bug(
        "watcher: sees and does nothing",
        "nodeagent/watcher.py",
        (
            "                    while await"
            ' sweep_and_tell(self._link, self._session.node, "session lost", self._agenda):\n'
            "                        in_vain = False  # the next part, or the next that is lost\n",
            "",
        ),
        world="A neighbour's death is noticed at once, and its symbols wait for its time to live to run out.",
        caught_by=f"{PARTS}test_a_neighbour_whose_session_ends_is_swept_at_once",
        shows="nobody sweeps it",
    ),
)

RETRIES = (
    bug(
        "errors: a full disk is an error of ours",
        CONNECTIONS,
        (" or state.startswith(_LACKS)", ""),
        world="The database's disk fills up, and every node's process ends of it.",
        caught_by=f"{PARTS}test_a_statement_that_found_the_disk_full_is_tried_again[53100]",
        shows="DiskFullError",
    ),
    bug(
        "retry: outside the command",
        "exchange/services.py",
        (
            "        toggles = retrying(command)\n",
            "        from django.db import transaction\n\n        with transaction.atomic():\n"
            "            toggles = retrying(command)\n",
        ),
        world="A switch that loses one race fails for good: the transaction that it would be tried again in is lost.",
        caught_by="tests/database/test_services.py::"
        "test_a_command_that_loses_twice_is_done_once_and_as_a_whole_by_its_third_try",
        shows="current transaction is aborted",
    ),
    bug(
        "retry: not after a deadlock",
        "mmproject/db.py",
        ('RETRYABLE = frozenset({"40001", "40P01"})', 'RETRYABLE = frozenset({"40001"})'),
        world="Whoever PostgreSQL picks to break a deadlock gets a 500.",
        caught_by="tests/unit/test_platform.py::test_a_serialization_failure_is_tried_again_and_then_shown",
        shows="assert 1 == 8",
    ),
    bug(
        "retry: whatever went wrong",
        "mmproject/db.py",
        ("if sqlstate(error) not in RETRYABLE or attempt == attempts - 1:", "if attempt == attempts - 1:"),
        world="A command that the database refused is sent eight times, and the caller waits for all of them.",
        caught_by="tests/unit/test_platform.py::test_any_other_error_is_not_tried_again",
        shows="assert 8 == 1",
    ),
    bug(
        "retry: a last time too few",
        "mmproject/db.py",
        ("    for attempt in range(attempts):\n", "    for attempt in range(attempts - 1):\n"),
        world="The eighth loss is told as a mistake of ours and not as what it is.",
        caught_by="tests/unit/test_platform.py::test_a_serialization_failure_is_tried_again_and_then_shown",
        shows="attempts must be at least 1",
    ),
)

BUGS = (*BELIEF, *HOLDING, *DOORBELLS, *RETRIES)
