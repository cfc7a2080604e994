"""Bugs of membership, leases, epochs, tenures and their ends (I1 to I5, I13)."""

from __future__ import annotations

from tests.planted.bug import bug

LEASES = "tests/database/test_races_leases.py::"
ENDS = "tests/database/test_races_ends.py::"
FENCE = "tests/database/test_races_fence.py::"
HOLDS = "[holds]"

LOCK = "authority/sql/authority_lock_leases_v1.sql"
ACQUIRE = "authority/sql/authority_acquire_v3.sql"
SWEEP = "authority/sql/authority_sweep_v3.sql"
RENEW = "authority/sql/authority_renew_v3.sql"
REGISTER = "authority/sql/authority_register_v3.sql"
RELEASE = "authority/sql/authority_release_v3.sql"
END = "authority/sql/authority_end_incarnation_v3.sql"
APPLY = "authority/sql/authority_apply_assignment_v2.sql"

GRANTS = (
    bug(
        "grant: epoch not raised",
        ACQUIRE,
        ("epoch = l.epoch + 1,", "epoch = greatest(l.epoch, 1),"),
        world="A successor gets its predecessor's epoch, so nothing tells their writes apart.",
        caught_by=f"{LEASES}test_a_successor_that_acquires_during_the_release_waits_and_gets_the_next_epoch{HOLDS}",
        shows="i2_epochs_rise",
    ),
    bug(
        "grant: of what is held",
        LOCK,
        (
            " FILTER (WHERE l.incarnation IS NOT DISTINCT FROM p_incarnation) INTO v_locked\n"
            "              FROM (SELECT symbol, incarnation FROM authority_lease WHERE symbol = ANY (p_symbols)\n"
            "                     ORDER BY symbol FOR UPDATE) l;",
            " INTO v_locked\n"
            "              FROM (SELECT symbol, incarnation FROM authority_lease WHERE symbol = ANY (p_symbols)\n"
            "                     ORDER BY symbol FOR UPDATE) l;",
        ),
        world="A node takes a symbol from under its live holder.",
        caught_by=f"{LEASES}test_two_nodes_that_acquire_one_symbol_at_once_get_it_once{HOLDS}",
        shows="i3_no_overlap",
    ),
    bug(
        "grant: whoever asks",
        ACQUIRE,
        ("WHERE a.symbol = ANY (p_symbols) AND a.node = me.node", "WHERE a.symbol = ANY (p_symbols)"),
        (" AND a.node = me.node\n            RETURNING", "\n            RETURNING"),
        world="A node that is faster than the one a symbol was assigned to keeps it: nothing is balanced.",
        caught_by=f"{LEASES}test_a_free_symbol_is_granted_to_the_node_that_it_is_assigned_to_and_no_other{HOLDS}",
        shows="b took what is assigned to a",
    ),
    bug(
        "grant: incarnation not locked",
        ACQUIRE,
        ("AND ended_at IS NULL AND ending IS NULL FOR SHARE;", "AND ended_at IS NULL AND ending IS NULL;"),
        world="A node that is being swept is granted a symbol in the same moment, and nobody ever takes it away.",
        caught_by=f"{LEASES}test_a_grant_that_waits_for_its_own_sweep_gets_nothing{HOLDS}",
        shows="granted to the dead",
    ),
    bug(
        "grant: now() for clock_timestamp()",
        ACQUIRE,
        ("IF me.expires_at > clock_timestamp() THEN", "IF me.expires_at > now() THEN"),
        world="A grant that waits for the lease's row beyond its own expiry is made all the same.",
        caught_by=f"{LEASES}test_a_grant_that_waits_beyond_its_own_expiry_gets_nothing{HOLDS}",
        shows="granted to an expired incarnation",
    ),
    bug(
        "grant: lease row not locked",
        LOCK,
        ("ORDER BY symbol FOR UPDATE) l;", "ORDER BY symbol) l;"),
        world="A successor that asks while the holder releases is told that the symbol is held, and stays without it.",
        caught_by=f"{LEASES}test_a_successor_that_acquires_during_the_release_waits_and_gets_the_next_epoch{HOLDS}",
        shows="the successor got .*held",
    ),
    bug(
        "grant: dated at its transaction's start",
        ACQUIRE,
        ("greatest(clock_timestamp(), l.released_at)", "now()"),
        world="The history says that a grant came before the release that it waited for.",
        caught_by=f"{LEASES}test_a_grant_that_waits_for_a_release_is_dated_after_it{HOLDS}",
        shows="i3_no_overlap",
    ),
    bug(
        "grant: leases locked backwards",
        LOCK,
        ("ORDER BY symbol FOR UPDATE) l;", "ORDER BY symbol DESC FOR UPDATE) l;"),
        world="Two batches deadlock, and each time one of them loses its quotes for as long as a retry takes.",
        caught_by=f"{LEASES}test_leases_are_locked_in_symbol_order{HOLDS}",
        shows="BRAVO was locked before ALFA",
    ),
    bug(
        "assignment: any generation",
        APPLY,
        (
            "IF coalesce(v_last.generation, 0) <> p_generation\n       OR p_members",
            "IF p_members",
        ),
        world="An assignment computed from an old one undoes the newer one: symbols move twice.",
        caught_by=f"{LEASES}test_an_assignment_applied_twice_at_once_is_one_generation{HOLDS}",
        shows="the second got 'unchanged'",
    ),
    bug(
        "assignment: for members that have gone",
        APPLY,
        (
            "<> p_generation\n       OR p_members IS DISTINCT FROM"
            ' (SELECT array_agg(node ORDER BY node COLLATE "C") FROM authority_member) THEN',
            "<> p_generation THEN",
        ),
        world="Symbols are assigned to a node that drains, and stay with nobody.",
        caught_by=f"{LEASES}test_an_assignment_computed_before_a_drain_committed_is_stale_afterwards{HOLDS}",
        shows="'applied' == 'stale'",
    ),
)

KEPT = "tests/database/test_rows_kept_locked.py::"
LOCKED = (
    bug(
        "locks: waited for however long",
        "exchange/sql/exchange_lock_quotes_v1.sql",
        ("FOR UPDATE SKIP LOCKED) q;", "FOR UPDATE) q;"),
        world="One session left open on one row, and nothing of a lost node's is taken over until it ends.",
        caught_by=f"{KEPT}test_a_lost_nodes_other_symbols_are_taken_over[exchange_quote]",
        shows="None == \\('a', 'session_lost', 1, False\\)",
    ),
    bug(
        "locks: of a lease waited for however long",
        LOCK,
        ("FOR UPDATE SKIP LOCKED) l;", "FOR UPDATE) l;"),
        world="The same, by a row of another table.",
        caught_by=f"{KEPT}test_other_free_symbols_are_granted[authority_lease]",
        shows="LockNotAvailable",
    ),
    bug(
        "locks: not free is held",
        ACQUIRE,
        ("                    WHEN l.node IS NULL THEN 'busy'\n", ""),
        world="A node waits for a release that will not come, and the symbol stays without a holder.",
        caught_by=f"{KEPT}test_other_free_symbols_are_granted[exchange_quote]",
        shows="'held'",
    ),
    bug(
        "locks: a lost node's row",
        SWEEP,
        ("WHEN lock_not_available THEN\n            CONTINUE;", "WHEN lock_not_available THEN\n            RAISE;"),
        world="One lost node whose row is locked, and no other lost node is ever ended.",
        caught_by=f"{KEPT}test_another_lost_node_is_ended_while_the_row_of_the_first_is_locked",
        shows="LockNotAvailable",
    ),
    bug(
        "locks: a lost node of which all is locked",
        SWEEP,
        ("CONTINUE WHEN e.symbols = 0 AND NOT e.done AND i.ending IS NOT DISTINCT FROM v_reason;", ""),
        world="The same, by a row of a symbol's; and the sweepers sweep it all day long.",
        caught_by=f"{KEPT}test_another_lost_node_is_ended",
        shows="'session_lost', 0, False\\) is None",
    ),
    bug(
        "locks: an end told again and again",
        END,
        ("IF symbols = 0 AND NOT done AND NOT v_begins THEN", "IF false THEN"),
        world="The journal fills with an end that does not come about.",
        caught_by=f"{KEPT}test_a_lost_nodes_other_symbols_are_taken_over[exchange_quote]",
        shows="assert 2 == 1",
    ),
)

MEMBERSHIP = (
    bug(
        "registration: session lock for the transaction only",
        REGISTER,
        ("PERFORM pg_advisory_lock(", "PERFORM pg_advisory_xact_lock("),
        world="Every node looks dead to every sweep as soon as it has registered.",
        caught_by="tests/database/test_services.py::test_the_second_sweeper_ends_a_node_that_lost_its_session",
        shows="assert .*ession_lost.* == \\[\\]",
    ),
    bug(
        "registration: name not locked",
        REGISTER,
        ("PERFORM 1 FROM authority_node WHERE name = p_node FOR UPDATE;", ""),
        world="Of two processes started under one name the second dies of a database error instead of waiting.",
        caught_by=f"{LEASES}test_two_processes_that_register_one_name_at_once_become_one_node{HOLDS}",
        shows="one_live_incarnation_per_node",
    ),
    bug(
        "renewal: a pause is forgotten",
        RENEW,
        ("THEN clock_timestamp() ELSE steady_since END", "THEN steady_since ELSE steady_since END"),
        world="A node that has been stopped for seconds is blamed for the quotes that it could not refresh.",
        caught_by="tests/database/test_services.py::test_a_node_is_steady_since_its_last_late_renewal",
        shows="the pause",
    ),
    bug(
        "renewal: judged before the lock",
        RENEW,
        ("PERFORM 1 FROM authority_incarnation WHERE id = p_incarnation FOR NO KEY UPDATE;", ""),
        world="A renewal that waited past the expiry brings a dead incarnation back to life.",
        caught_by=f"{LEASES}test_a_renewal_that_waits_for_its_own_grant_past_the_expiry_is_refused{HOLDS}",
        shows="came back after its expiry",
    ),
    bug(
        "renewal: now() for clock_timestamp()",
        RENEW,
        ("AND expires_at > clock_timestamp() RETURNING", "AND expires_at > now() RETURNING"),
        world="The same: the transaction's start is before the wait.",
        caught_by=f"{LEASES}test_a_renewal_that_waits_for_its_own_grant_past_the_expiry_is_refused{HOLDS}",
        shows="came back after its expiry",
    ),
    bug(
        "renewal: of the ended",
        RENEW,
        ("AND ended_at IS NULL AND expires_at > clock_timestamp() RETURNING", "RETURNING"),
        world="A node that was swept goes on as if nothing had happened, and never registers again.",
        caught_by=f"{LEASES}test_a_renewal_that_waits_for_its_own_sweep_never_comes_back{HOLDS}",
        shows="an ended incarnation came back",
    ),
    bug(
        "sweep: expiry judged before the lock",
        SWEEP,
        (
            "WHEN i.expires_at <= clock_timestamp() THEN 'expired'",
            "WHEN c.expires_at <= clock_timestamp() THEN 'expired'",
        ),
        world="A node that renewed in time loses all its symbols to a sweep that had looked a moment earlier.",
        caught_by=f"{LEASES}test_a_sweep_at_the_edge_of_expiry_waits_for_the_renewal_and_spares_it{HOLDS}",
        shows="ended although it was renewed",
    ),
    bug(
        "sweep: blind to lost sessions",
        SWEEP,
        ("WHEN NOT authority_session_alive_v1(i.serial) THEN 'session_lost'", ""),
        world="A killed node's symbols stand unquoted until its time to live has run out.",
        caught_by="tests/database/test_services.py::test_the_second_sweeper_ends_a_node_that_lost_its_session",
        shows="its session is seen to be gone",
    ),
    bug(
        "end: a lost holder's quote stays",
        END,
        ("CASE WHEN v_lost THEN p_reason END);", "NULL);"),
        world="Orders are filled against the quote of a node that nobody can reach any more.",
        caught_by=f"{FENCE}test_a_takeover_waits_for_the_quote_in_flight{HOLDS}",
        shows="assert False",
    ),
    bug(
        "end: dated before the wait",
        END,
        ("v_at := coalesce(p_ended_at, clock_timestamp());", "v_at := coalesce(p_ended_at, now());"),
        world="The history shows quotes of a node after its tenure had ended.",
        caught_by=f"{ENDS}test_a_lost_session_ends_when_its_fences_are_down_and_not_when_it_was_found{HOLDS}",
        shows="quoted after its tenure's end",
    ),
    bug(
        "end: the rest goes on being held",
        END,
        ("CASE WHEN v_lost THEN least(expires_at, v_at) ELSE expires_at END", "expires_at"),
        world="A lost node whose end comes in parts goes on quoting what has not been taken away yet.",
        caught_by=f"{ENDS}test_what_is_not_taken_away_yet_cannot_be_quoted_any_more{HOLDS}",
        shows="wrote after its end had begun",
    ),
    bug(
        "release: dated before the wait",
        RELEASE,
        ("v_at := clock_timestamp();", "v_at := now();"),
        world="The history shows a quote, and fills against it, after the release that waited for it.",
        caught_by=f"{ENDS}test_a_release_that_waits_for_the_quote_in_flight_ends_the_tenure_after_it{HOLDS}",
        shows="quoted after its tenure's end",
    ),
    bug(
        "release: of somebody else's",
        RELEASE,
        ("THEN authority_lock_leases_v1(p_symbols, p_incarnation, p_wait) ELSE", "THEN p_symbols ELSE"),
        world="A release sent again after its answer was lost takes the symbol from its new holder.",
        caught_by=f"{ENDS}test_a_release_sent_again_leaves_the_next_holder_alone{HOLDS}",
        shows="took it from its next holder",
    ),
    bug(
        "tenure: its end rewritten",
        "authority/sql/authority_tenure_history_v1.sql",
        ("IF TG_OP = 'UPDATE' AND OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL", "IF TG_OP = 'UPDATE'"),
        world="Who held a symbol when can be changed afterwards.",
        caught_by="tests/database/test_roles.py::test_what_was_recorded_cannot_be_changed_by_the_tables_owner_either",
        shows="DID NOT RAISE",
    ),
)

FENCES = (
    bug(
        "fence: judged before the lock",
        "exchange/sql/exchange_replace_quotes_v3.sql",
        ("PERFORM 1 FROM exchange_quote WHERE symbol = ANY (p_symbols) ORDER BY symbol FOR UPDATE;", ""),
        world="A stopped node's write that waited for the takeover commits after it, under the old epoch.",
        caught_by=f"{FENCE}test_a_stopped_node_cannot_write_while_its_successor_takes_over{HOLDS}",
        shows="a stale epoch was accepted",
    ),
    bug(
        "fence: the weakest lock",
        "exchange/sql/exchange_replace_quotes_v3.sql",
        ("ORDER BY symbol FOR UPDATE;", "ORDER BY symbol FOR KEY SHARE;"),
        world="An update of the row doesn't wait for it: what is judged may be the row of before.",
        caught_by=f"{FENCE}test_two_replacements_at_once_are_two_versions{HOLDS}",
        shows="quote_version_once",
    ),
    bug(
        "fence: < for <=",
        "exchange/sql/exchange_raise_fence_v1.sql",
        ("WHERE q.symbol = i.symbol AND q.epoch < i.epoch;", "WHERE q.symbol = i.symbol AND q.epoch <= i.epoch;"),
        world="The last line against an epoch that is granted twice is gone.",
        caught_by=f"{FENCE}test_a_fence_is_raised_to_higher_epochs_only{HOLDS}",
        shows="raised to an epoch",
    ),
    bug(
        "fence: left up",
        "exchange/sql/exchange_drop_fence_v1.sql",
        ("SET holder = NULL, node = NULL WHERE", "SET node = NULL WHERE"),
        world="A node goes on quoting what it has released.",
        caught_by=f"{LEASES}test_a_quote_that_waits_for_its_own_release_is_refused{HOLDS}",
        shows="wrote after its release",
    ),
    bug(
        "fence: now() for clock_timestamp()",
        "exchange/sql/exchange_replace_quotes_v3.sql",
        ("clock_timestamp() >= p_deadline", "now() >= p_deadline"),
        world="A writer that waits for the row beyond its expiry still writes.",
        caught_by=f"{FENCE}test_a_writer_that_waits_for_the_row_beyond_its_expiry_is_refused{HOLDS}",
        shows="accepted past its expiry",
    ),
    bug(
        "fence: refusals not written down",
        "authority/sql/authority_replace_quotes_v3.sql",
        ("IF r.outcomes && ARRAY['not_holder', 'stale_epoch', 'expired']", "IF r.outcomes && ARRAY['stale_epoch']"),
        world="`explain` can't say that an intruder was turned away.",
        caught_by=f"{FENCE}test_a_stopped_node_cannot_write_after_its_successor{HOLDS}",
        shows="not_holder",
    ),
)

DRAINS = (
    bug(
        "drain: node row not locked",
        "authority/sql/authority_set_draining_v1.sql",
        ("WHERE name = p_node FOR UPDATE;", "WHERE name = p_node;"),
        world="Two operators at once leave an audit that contradicts itself.",
        caught_by="tests/database/test_races_switch.py::"
        f"test_a_drain_and_an_undrain_at_once_are_audited_one_after_the_other{HOLDS}",
        shows="the audit does not follow",
    ),
)

BUGS = (*GRANTS, *LOCKED, *MEMBERSHIP, *FENCES, *DRAINS)
