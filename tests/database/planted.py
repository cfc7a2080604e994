"""Violations to plant in a scratch copy of a busy market, one or more for each check that `verify` makes.

The statements run as the tables' owner with our own triggers disabled, each in its own commit: what a bug, a restored
backup or a person with too many rights could do.
"""

from __future__ import annotations

from dataclasses import dataclass

SIDES = "CASE side WHEN 'buy' THEN 'sell' ELSE 'buy' END::mm_side"
A_FILL = "(SELECT fill_id FROM ledger_fill WHERE symbol = 'ALFA' ORDER BY sequence OFFSET 3 LIMIT 1)"
MOVED = "(SELECT min(symbol) FROM authority_tenure WHERE epoch = 3)"  # a symbol of several tenures
A_GENERATED = "(SELECT min(client_order_id) FROM exchange_order WHERE step > 1 AND symbol = 'ALFA')"
DROPPED = "INSERT INTO exchange_retention VALUES ('ALFA', 3, clock_timestamp())"
AN_HOUR_EARLIER = (
    "ALTER TABLE authority_tenure DROP CONSTRAINT i3_no_overlap",  # judged row by row while they move
    "UPDATE authority_tenure SET granted_at = granted_at - interval '1 hour', ended_at = ended_at - interval '1 hour'"
    " WHERE symbol = 'ALFA'",
    "ALTER TABLE authority_tenure ADD CONSTRAINT i3_no_overlap"
    " EXCLUDE USING gist (symbol WITH =, tstzrange(granted_at, ended_at) WITH &&)",
)


def drop_unique(table: str, column: str) -> str:
    """Statement that drops every unique index on this one column."""
    return f"""
    DO $$ DECLARE r record; BEGIN
        FOR r IN SELECT i.indexrelid::regclass AS name, c.conname FROM pg_index i
                   JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                   LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid
                  WHERE i.indrelid = '{table}'::regclass AND i.indisunique AND i.indnatts = 1 AND a.attname = '{column}'
        LOOP
            IF r.conname IS NOT NULL THEN EXECUTE format('ALTER TABLE {table} DROP CONSTRAINT %I', r.conname);
            ELSE EXECUTE format('DROP INDEX %s', r.name); END IF;
        END LOOP;
    END $$"""


def copy_row(table: str, where: str, **changes: str) -> str:
    """Statement that inserts a second row like the one of `where`, with some columns changed."""
    changed = ", ".join(f"'{name}', {value}" for name, value in changes.items())
    return (
        f"INSERT INTO {table} SELECT (jsonb_populate_record(t, jsonb_build_object({changed}))).*"
        f" FROM {table} t WHERE {where}"
    )


def drop(table: str, constraint: str) -> str:
    return f"ALTER TABLE {table} DROP CONSTRAINT {constraint}"


def disable(table: str, trigger: str) -> str:
    return f"ALTER TABLE {table} DISABLE TRIGGER {trigger}"


@dataclass(frozen=True)
class Plant:
    """A violation: the check that must see it, what its rows must say, and how it comes about."""

    invariant: str
    check: str
    statements: tuple[str, ...]
    says: str = ""

    @property
    def name(self) -> str:
        return f"{self.invariant} {self.check}{': ' if self.says else ''}{self.says}"


def plant(invariant: str, check: str, *statements: str, says: str = "") -> Plant:
    return Plant(invariant, check, statements, says)


LEASES = (
    plant("I1", "a symbol has one lease", drop_unique("authority_lease", "symbol"),
          copy_row("authority_lease", "symbol = 'ALFA'", node="NULL")),
    plant("I1", "the database refuses a second lease", drop_unique("authority_lease", "symbol")),
    plant("I1", "a lease's holder is one incarnation that has not ended",
          "UPDATE authority_lease l SET incarnation = i.id, node = i.node FROM authority_incarnation i"
          " WHERE i.ended_at IS NOT NULL AND l.symbol = 'ALFA'"),
    plant("I1", "a held lease is an open tenure, and an open tenure is a held lease",
          "INSERT INTO authority_tenure (symbol, epoch, incarnation, node, granted_at)"
          " SELECT symbol, 99, incarnation, node, clock_timestamp()"
          " FROM authority_tenure WHERE symbol = 'ALFA' LIMIT 1"),
    plant("I1", "the fence in front of a symbol's quote names the lease's holder and epoch",
          "UPDATE exchange_quote SET epoch = epoch + 1 WHERE symbol = 'ALFA'"),
    plant("I1", "a node has one live incarnation", "DROP INDEX one_live_incarnation_per_node",
          *["INSERT INTO authority_incarnation (id, node, ttl_ms, expires_at)"
            " VALUES (gen_random_uuid(), 'node-1', 1000, clock_timestamp())"] * 2),
    plant("I2", "each tenure's epoch is one more than the one before it", drop("authority_tenure", "i2_epochs_rise"),
          f"UPDATE authority_tenure SET epoch = 1 WHERE symbol = {MOVED} AND epoch = 2"),
    plant("I2", "a lease's epoch is its last tenure's",
          "UPDATE authority_lease SET epoch = epoch - 1 WHERE symbol = 'ALFA'"),
    plant("I2", "the database refuses an epoch a second time", drop("authority_tenure", "i2_epochs_rise")),
    plant("I2", "the database refuses to rewrite a tenure", disable("authority_tenure", "history_row")),
    plant("I3", "no tenure of a symbol begins before all earlier ones have ended",
          drop("authority_tenure", "i3_no_overlap"),
          "UPDATE authority_tenure SET ended_at = ended_at + interval '1 hour'"
          f" WHERE symbol = {MOVED} AND epoch = 1"),
    plant("I3", "no tenure of a symbol begins before all earlier ones have ended",
          drop("authority_tenure", "i3_no_overlap"),
          f"UPDATE authority_tenure SET ended_at = NULL, reason = NULL WHERE symbol = {MOVED} AND epoch = 1"),
    plant("I3", "the database's exclusion constraint is there and valid", drop("authority_tenure", "i3_no_overlap")),
    plant("I3", "the exclusion constraint compares what it should", drop("authority_tenure", "i3_no_overlap"),
          "ALTER TABLE authority_tenure ADD CONSTRAINT i3_no_overlap"
          " EXCLUDE USING gist (id WITH =, tstzrange(granted_at, ended_at) WITH &&)"),
)  # fmt: skip

FENCE = (
    plant("I4", "a symbol's quote versions count 1, 2, 3 ... and their epochs never fall",
          copy_row("exchange_quoteversion", f"symbol = {MOVED} AND version = 1", id="999999",
                   version=f"(SELECT version + 1 FROM exchange_quote WHERE symbol = {MOVED})"),
          says='"epoch": 1'),
    plant("I4", "a symbol's quote versions count 1, 2, 3 ... and their epochs never fall",
          "DELETE FROM exchange_quoteversion WHERE symbol = 'ALFA' AND version = 2"),
    # Some have been dropped, and one more than that is missing.
    plant("I4", "a symbol's quote versions count 1, 2, 3 ... and their epochs never fall", DROPPED,
          "DELETE FROM exchange_quoteversion WHERE symbol = 'ALFA' AND version <= 4", says='"version": 5'),
    plant("I4", "a symbol's quote versions count 1, 2, 3 ... and their epochs never fall", DROPPED,
          "DELETE FROM exchange_quoteversion WHERE symbol = 'ALFA' AND version = 6", says='"version": 7'),
    # What may be missing may still not be there twice.
    plant("I4", "a symbol's quote versions count 1, 2, 3 ... and their epochs never fall", DROPPED,
          copy_row("exchange_quoteversion", "symbol = 'ALFA' AND version = 2", id="999999",
                   published_at="clock_timestamp() + interval '1 day'"), says='"version": 2'),
    plant("I4", "the live quote is its newest version, under the fence's epoch or an older one",
          "UPDATE exchange_quote SET bid_price = bid_price - tick_size WHERE bid_price IS NOT NULL"),
    plant("I4", "the live quote is its newest version, under the fence's epoch or an older one",
          "UPDATE exchange_quote SET version = version + 1 WHERE symbol = 'ALFA'"),
    plant("I4", "the database refuses to change a quote version", disable("exchange_quoteversion", "append_only_row"),
          says="append_only_row on exchange_quoteversion"),
    plant("I4", "the database refuses to change a quote version",
          disable("exchange_quoteversion_default", "append_only_table"),
          says="append_only_table on exchange_quoteversion_default"),
    plant("I4", "the database refuses a second quote version under a number",
          drop("exchange_quoteversion_default", "quote_version_once_default")),
    plant("I4", "the database keeps one live quote per symbol", drop_unique("exchange_quote", "symbol")),
    plant("I4", "each quote version belongs to a tenure",
          "UPDATE exchange_quoteversion SET incarnation = gen_random_uuid() WHERE symbol = 'ALFA' AND version = 1"),
    plant("I4", "each fill was made under a tenure",
          f"UPDATE ledger_fill SET incarnation = gen_random_uuid() WHERE fill_id = {A_FILL}"),
    # The row as it was, but written by a transaction of now: what a late commit leaves.
    plant("I4", "each quote committed after its own epoch's grant and before any later one's",
          f"UPDATE exchange_quoteversion SET version = version WHERE symbol = {MOVED} AND version = 1"),
    plant("I5", "no quote committed later than its tenure's end plus the transaction timeout", *AN_HOUR_EARLIER),
    plant("I5", "no quote committed later than its tenure's end plus the transaction timeout",
          # Nobody has swept it yet, but it expired an hour ago.
          *AN_HOUR_EARLIER, "UPDATE authority_incarnation SET expires_at = expires_at - interval '2 hours'",
          "UPDATE authority_tenure SET ended_at = NULL, reason = NULL WHERE symbol = 'ALFA'"),
)  # fmt: skip

LEDGER = (
    plant("I6", "a position is the sum of its symbol's fills", "UPDATE ledger_position SET cash = cash + 0.01"),
    plant("I6", "a position is the sum of its symbol's fills",
          "UPDATE ledger_position SET quantity = quantity * 2 WHERE quantity <> 0"),
    plant("I6", "each fill left the position that the fill before it and its own terms make",
          f"UPDATE ledger_fill SET cost_after = cost_after + 0.0000000001 WHERE fill_id = {A_FILL}"),
    plant("I6", "a position is as its last fill left it", "UPDATE ledger_position SET cost = cost * 2 WHERE cost <> 0"),
    plant("I6", "what is shown of a position is what its fills left",
          "UPDATE ledger_position SET cost = cost * 2 WHERE cost <> 0"),
    plant("I6", "every symbol has its position", "DELETE FROM ledger_position WHERE symbol = 'CHARLIE'"),
    plant("I7", "a fill id belongs to one fill, and is its symbol and sequence", drop_unique("ledger_fill", "fill_id"),
          copy_row("ledger_fill", f"fill_id = {A_FILL}", node="'node-1'")),
    plant("I7", "fills count 1, 2, 3 ... up to their position's version",
          f"DELETE FROM ledger_fill WHERE fill_id = {A_FILL}"),
    plant("I7", "the database refuses a second fill under an id", drop_unique("ledger_fill", "fill_id")),
    plant("I7", "the database refuses to change a fill", disable("ledger_fill", "append_only_row")),
    plant("I7", "a client order id belongs to one order", drop_unique("exchange_order", "client_order_id"),
          copy_row("exchange_order", "client_order_id = 'c-takes'", id="999999")),
    plant("I7", "the database refuses a second order under a client order id",
          drop_unique("exchange_order", "client_order_id")),
    plant("I7", "the exchange and the ledger count a symbol's fills alike",
          "UPDATE exchange_quote SET sequence = sequence + 1 WHERE symbol = 'ALFA'"),
    plant("I7", "trades between orders count 1, 2, 3 ...",
          "DELETE FROM exchange_trade WHERE trade_id = (SELECT min(trade_id) FROM exchange_trade)"),
)  # fmt: skip

SIZES = (
    plant("I8", "an order's fills and trades add up to what it says, and never to more than its quantity",
          drop("exchange_order", "order_holds"),
          "UPDATE exchange_order SET filled_quantity = quantity * 2 WHERE client_order_id = 'c-takes'"),
    plant("I8", "an order's fills and trades add up to what it says, and never to more than its quantity",
          f"UPDATE ledger_fill SET quantity = quantity * 2 WHERE fill_id = {A_FILL}"),
    plant("I8", "the fills of a quote's side never exceed its size",
          "UPDATE exchange_quoteversion v SET ask_quantity = lot_size FROM (SELECT symbol, quote_version"
          " FROM ledger_fill WHERE side = 'sell' AND quantity > lot_size LIMIT 1) AS f"
          " WHERE (v.symbol, v.version) = (f.symbol, f.quote_version)"),
    plant("I8", "the live quote's remaining size is its size less its fills",
          "UPDATE exchange_quote SET bid_quantity = bid_quantity + lot_size WHERE bid_quantity IS NOT NULL"),
    plant("I8", "the database refuses an overfilled order", drop("exchange_order", "order_holds")),
)  # fmt: skip

FAIR = "each fill lies within its quote and its order, both live then, on tick and on lot"
A_FILL_WITHOUT_QUOTE = (
    "INSERT INTO exchange_retention SELECT symbol, quote_version, clock_timestamp()"
    f" FROM ledger_fill WHERE fill_id = {A_FILL}",
    "DELETE FROM exchange_quoteversion v USING ledger_fill f"
    f" WHERE f.fill_id = {A_FILL} AND v.symbol = f.symbol AND v.version <= f.quote_version",
)
FAIRNESS = (
    plant("I9", FAIR, f"UPDATE ledger_fill SET quote_version = 99999 WHERE fill_id = {A_FILL}",
          says="against no quote"),
    # Versions have been dropped, but not this fill's.
    plant("I9", FAIR, "INSERT INTO exchange_retention SELECT symbol, quote_version - 1, clock_timestamp()"
                      f" FROM ledger_fill WHERE fill_id = {A_FILL}",
          "DELETE FROM exchange_quoteversion v USING ledger_fill f"
          f" WHERE f.fill_id = {A_FILL} AND v.symbol = f.symbol AND v.version <= f.quote_version",
          says="against no quote"),
    # Its quote has been dropped; what its order says is still judged.
    plant("I9", FAIR, *A_FILL_WITHOUT_QUOTE, f"UPDATE ledger_fill SET side = {SIDES} WHERE fill_id = {A_FILL}",
          says="on the wrong side"),
    plant("I9", FAIR, *A_FILL_WITHOUT_QUOTE,
          f"UPDATE ledger_fill SET client_order_id = 'nobody' WHERE fill_id = {A_FILL}", says="with no order"),
    plant("I9", FAIR, f"UPDATE ledger_fill SET client_order_id = 'nobody' WHERE fill_id = {A_FILL}",
          says="with no order"),
    plant("I9", FAIR, f"UPDATE ledger_fill SET epoch = epoch + 1 WHERE fill_id = {A_FILL}",
          says="under another epoch"),
    plant("I9", FAIR,
          "UPDATE ledger_fill f SET quote_version = v.version FROM exchange_quoteversion v"
          f" WHERE f.fill_id = {A_FILL} AND v.withdrawn_reason IS NULL AND (v.symbol, v.epoch) = (f.symbol, f.epoch)"
          " AND v.version < f.quote_version AND v.incarnation = f.incarnation",
          says="while the quote was not live"),
    plant("I9", FAIR, "UPDATE exchange_quoteversion SET valid_until = published_at - interval '1 hour'"
                      " WHERE withdrawn_reason IS NULL", says="after the quote had lapsed"),
    plant("I9", FAIR, "UPDATE ledger_fill SET filled_at = filled_at - interval '1 hour'",
          "UPDATE exchange_quoteversion SET valid_until = published_at - interval '1 minute'"
          " WHERE withdrawn_reason IS NULL", says="committed when the quote was long over"),
    plant("I9", FAIR, f"UPDATE ledger_fill SET side = {SIDES} WHERE fill_id = {A_FILL}", says="on the wrong side"),
    plant("I9", FAIR, "UPDATE ledger_fill SET price = price + tick_size * 1000 WHERE side = 'buy'",
          says="beyond the quote's price"),
    plant("I9", FAIR, "UPDATE exchange_order SET price = tick_size WHERE client_order_id = 'c-takes'",
          says="beyond the order's limit"),
    plant("I9", FAIR, "UPDATE ledger_fill f SET price = f.price + f.tick_size FROM exchange_order o"
                      " WHERE o.client_order_id = f.client_order_id AND o.type = 'market' AND f.side = 'sell'",
          says="not at the resting side's price"),
    plant("I9", FAIR, f"UPDATE ledger_fill SET quantity = quantity * 1000000 WHERE fill_id = {A_FILL}",
          says="larger than what it traded with"),
    plant("I9", FAIR, "UPDATE exchange_order SET status = 'cancelled', updated_at = created_at - interval '1 hour'"
                      " WHERE client_order_id = 'c-part'", says="after the order was cancelled"),
    plant("I9", FAIR, drop("ledger_fill", "fill_holds"),
          f"UPDATE ledger_fill SET tick_size = tick_size * 2 WHERE fill_id = {A_FILL}", says="off tick or off lot"),
    plant("I9", "each trade between orders is at the resting one's price, within the other's limit",
          "UPDATE exchange_trade SET price = price * 2"),
    plant("I9", "every order and quote version is on tick and on lot", drop("exchange_order", "order_holds"),
          "UPDATE exchange_order SET price = price + tick_size / 2 WHERE client_order_id = 'c-away'", says="c-away"),
    plant("I9", "every order and quote version is on tick and on lot",
          drop("exchange_quoteversion", "quote_version_not_crossed"),
          "UPDATE exchange_quoteversion SET bid_price = ask_price WHERE symbol = 'ALFA' AND version = 1",
          says="version 1"),
    plant("I9", "the quote's row knows the best price that rests on each side of the book",
          "UPDATE exchange_quote SET book_ask = NULL WHERE book_ask IS NOT NULL"),
    plant("I9", "the database refuses to change a trade", disable("exchange_trade", "append_only_row")),
)  # fmt: skip

TOLD = "what the orders tell of their fills is what was traded, and the other way round"
LOST = (
    plant("I10", TOLD, "DELETE FROM exchange_order WHERE client_order_id = 'c-takes'", says="traded, but not told"),
    plant("I10", TOLD, f"DELETE FROM ledger_fill WHERE fill_id = {A_FILL}", says="told, but not traded"),
)  # fmt: skip

FRESH = (
    plant(
        "I11", "a symbol that a healthy node holds has a quote of the last 5 s", *AN_HOUR_EARLIER,
        "UPDATE journal_audit SET at = at - interval '1 hour'",
        "INSERT INTO authority_incarnation (id, node, ttl_ms, registered_at, expires_at, steady_since)"
        " VALUES (gen_random_uuid(), 'node-9', 1000, clock_timestamp() - interval '1 hour',"
        " clock_timestamp() + interval '1 hour', clock_timestamp() - interval '11 seconds')",
        "SELECT pg_advisory_lock(journal_lock_v1('incarnation'), serial) FROM authority_incarnation"
        " WHERE node = 'node-9'",
        "UPDATE authority_lease l SET incarnation = i.id, node = i.node, epoch = l.epoch + 1,"
        " granted_at = clock_timestamp() - interval '20 seconds'"
        " FROM authority_incarnation i WHERE i.node = 'node-9' AND l.symbol = 'ALFA'",
        "UPDATE exchange_quoteversion SET published_at = published_at - interval '6 seconds' WHERE symbol = 'ALFA'",
    ),
)  # fmt: skip

OFF = "SELECT exchange_set_quoting_v2(ARRAY['ALFA'], false, 'ada', '')"
SWITCH = (
    plant("I12", "nothing is quoted and nothing filled between the commits of off and on", OFF,
          "UPDATE exchange_quoteversion SET version = version WHERE withdrawn_reason IS NULL AND symbol = 'ALFA'"
          " AND version > (SELECT version - 5 FROM exchange_quote WHERE symbol = 'ALFA')", says="quote version"),
    plant("I12", "nothing is quoted and nothing filled between the commits of off and on", OFF,
          f"UPDATE ledger_fill SET xid = pg_current_xact_id() WHERE fill_id = {A_FILL}", says="fill ALFA"),
    plant("I12", "a withdrawn quote has no later fill",
          "UPDATE ledger_fill f SET quote_version = w.version - 1 FROM exchange_quoteversion w"
          " WHERE w.symbol = 'ALFA' AND w.withdrawn_reason = 'quoting_disabled' AND f.symbol = 'ALFA'"
          " AND f.sequence = w.after_sequence + 1"),
    plant("I12", "a symbol that is off has no quote", drop("exchange_quote", "i12_kill_is_final"),
          "UPDATE exchange_quote SET quoting_enabled = false WHERE published_at IS NOT NULL"),
    plant("I12", "the database refuses a quote while off", drop("exchange_quote", "i12_kill_is_final")),
    plant("I13", "a symbol is on or off as its last audit row says", drop("exchange_quote", "i12_kill_is_final"),
          "UPDATE exchange_quote SET quoting_enabled = false WHERE symbol = 'ALFA'"),
    plant("I13", "each toggle's audit row goes on from the one before it",
          "DELETE FROM journal_audit WHERE id = (SELECT min(id) FROM journal_audit WHERE action = 'quoting_off')"),
    plant("I13", "each quote withdrawn by the switch has its audit row in the same commit",
          "DELETE FROM journal_audit WHERE action IN ('quoting_on', 'quoting_off')"),
    plant("I13", "each change of parameters has its audit row",
          "UPDATE exchange_symbol SET parameters_version = 9 WHERE name = 'ALFA'"),
    plant("I13", "a node drains as its last audit row says", "UPDATE authority_node SET draining = true"),
    plant("I13", "each drain's audit row goes on from the one before it",
          "DELETE FROM journal_audit WHERE action = 'drain'"),
    plant("I13", "every audit row says who", drop("journal_audit", "i13_audited_by_someone"),
          "UPDATE journal_audit SET actor = ' ' WHERE id = (SELECT min(id) FROM journal_audit)"),
    plant("I13", "the database refuses to change an audit row", disable("journal_audit", "append_only_table")),
)  # fmt: skip

A_HEALTHY_NODE = (
    "UPDATE authority_incarnation SET ttl_ms = 1000",
    "INSERT INTO authority_incarnation (id, node, ttl_ms, registered_at, expires_at) VALUES (gen_random_uuid(),"
    " 'node-9', 1000, clock_timestamp() - interval '1 hour', clock_timestamp() + interval '1 second')",
)
COVERED = "no enabled symbol was without a holder for longer than TTL + 2 s while a node was healthy"
COVERAGE = (
    plant("I14", COVERED, *A_HEALTHY_NODE, *AN_HOUR_EARLIER, says="ALFA"),  # let go of long ago, and nobody took it
    plant("I14", COVERED, *A_HEALTHY_NODE,  # never held at all, from its listing to its first grant
          "UPDATE exchange_symbol SET added_at = added_at - interval '2 minutes' WHERE name = 'BRAVO'", says="BRAVO"),
)  # fmt: skip

FLOW = "each step's orders, computed again, are there exactly once"
GENERATED = (
    plant("I15", FLOW, f"DELETE FROM exchange_order WHERE client_order_id = {A_GENERATED}", says="expected"),
    plant("I15", FLOW,
          copy_row("exchange_order", f"client_order_id = {A_GENERATED}", id="999999",
                   client_order_id="regexp_replace(t.client_order_id, '[0-9]+$', '7')"),
          says="not numbered"),
    plant("I15", FLOW,
          "UPDATE exchange_order SET step = step + 1000,"
          " client_order_id = 'ext-ALFA-' || lpad((step + 1000)::text, 9, '0')"
          f" || '-0' WHERE client_order_id = {A_GENERATED}", says="the clock shows"),
    plant("I15", FLOW, f"UPDATE exchange_order SET side = {SIDES} WHERE client_order_id = {A_GENERATED}",
          says="other contents"),
    plant("I15", FLOW, f"UPDATE exchange_order SET symbol = 'GONE' WHERE client_order_id = {A_GENERATED}",
          says="not listed"),
    plant("I15", "ids of generated orders belong to generated orders",
          f"UPDATE exchange_order SET step = NULL WHERE client_order_id = {A_GENERATED}"),
)  # fmt: skip

PLANTS = (
    *LEASES, *FENCE, *LEDGER, *SIZES, *FAIRNESS, *LOST, *FRESH, *SWITCH, *COVERAGE, *GENERATED,
)  # fmt: skip
