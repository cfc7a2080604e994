"""The exchange's side of `verify`: orders, quotes and their fills, the kill switch, as queries for what breaks them."""

# ruff: noqa: S608 - queries are put together from constants of this project only
from __future__ import annotations

from exchange.verify_flow import FLOW_CHECKS
from ledger.verify import LAST_FILL
from mmproject.invariants import Check, constraint_on, triggers_on, unique_on

ORDERS = "SELECT count(*) FROM exchange_order"
TRADES = "SELECT count(*) FROM exchange_trade"
FILLS = "SELECT count(*) FROM ledger_fill"
VERSIONS = "SELECT count(*) FROM exchange_quoteversion"
SYMBOLS = "SELECT count(*) FROM exchange_quote"

# An order asks last of all whether the quote still holds, and then commits: that takes moments.
COMMIT_ALLOWANCE = "interval '2 seconds'"

# Old versions are dropped by the partition, and each drop writes down how far it went (exchange_retention): up to there
# a version may be missing, and after it none.
_QUOTES = (
    Check(
        "I4",
        "a symbol's quote versions count 1, 2, 3 ... and their epochs never fall",
        """
        SELECT v.*, r.version AS dropped_to
          FROM (SELECT symbol, version, epoch, coalesce(lag(version) OVER w, 0) AS previous_version,
                       lag(epoch) OVER w AS previous_epoch
                  FROM exchange_quoteversion WINDOW w AS (PARTITION BY symbol ORDER BY version)) AS v
          LEFT JOIN exchange_retention r ON r.symbol = v.symbol
         WHERE v.version NOT BETWEEN previous_version + 1 AND greatest(previous_version, r.version) + 1
            OR epoch < previous_epoch""",
        checked=VERSIONS,
        note="""
        SELECT 'quote versions published before ' || to_char(max(dropped_before) AT TIME ZONE 'UTC',
                                                             'YYYY-MM-DD HH24:MI:SS')
               || ' UTC have been dropped' FROM exchange_retention""",
    ),
    Check(
        "I4",
        "the live quote is its newest version, under the fence's epoch or an older one",
        """
        SELECT q.symbol, q.version, v.version AS newest_version, q.quote_epoch, v.epoch, q.epoch AS fence_epoch,
               q.published_at, v.withdrawn_reason
          FROM exchange_quote q
          LEFT JOIN LATERAL (SELECT * FROM exchange_quoteversion n WHERE n.symbol = q.symbol
                              ORDER BY n.version DESC LIMIT 1) AS v ON true
         WHERE q.version <> coalesce(v.version, 0) OR q.quote_epoch > q.epoch
            OR (q.published_at IS NULL) <> (v.version IS NULL OR v.withdrawn_reason IS NOT NULL)
            OR q.published_at IS NOT NULL
               AND ((q.quote_epoch, q.quote_incarnation, q.quote_node, q.published_at, q.valid_until)
                    IS DISTINCT FROM (v.epoch, v.incarnation, v.node, v.published_at, v.valid_until)
                    OR q.bid_price <> v.bid_price OR q.ask_price <> v.ask_price)""",
        checked=SYMBOLS,
    ),
    Check(
        "I4",
        "the database refuses to change a quote version",
        triggers_on("exchange_quoteversion", "append_only_row", "append_only_table"),
    ),
    Check(
        "I4",
        "the database refuses a second quote version under a number",
        unique_on("exchange_quoteversion", "symbol", "version"),
    ),
    Check("I4", "the database keeps one live quote per symbol", unique_on("exchange_quote", "symbol")),
)

_POSITIONS = (
    Check(
        "I6",
        "what is shown of a position is what its fills left",
        f"""
        SELECT m.symbol, m.quantity, f.quantity_after, m.cash, f.cash_after, m.realised_pnl,
               f.cash_after + f.cost_after AS realised_expected
          FROM ledger_position p
          LEFT JOIN exchange_position_marked m ON m.symbol = p.symbol
          LEFT JOIN ledger_fill f ON f.fill_id = {LAST_FILL}
         WHERE (m.quantity, m.cash, m.realised_pnl)
               IS DISTINCT FROM (coalesce(f.quantity_after, 0), coalesce(f.cash_after, 0),
                                 coalesce(f.cash_after + f.cost_after, 0))""",
    ),
    Check(
        "I6",
        "every symbol has its position",
        """
        SELECT q.symbol FROM exchange_quote q
         WHERE NOT EXISTS (SELECT FROM ledger_position p WHERE p.symbol = q.symbol)""",
    ),
)

_ONCE = (
    Check(
        "I7",
        "a client order id belongs to one order",
        "SELECT client_order_id, count(*) AS orders FROM exchange_order GROUP BY client_order_id HAVING count(*) > 1",
        checked=ORDERS,
    ),
    Check(
        "I7",
        "the database refuses a second order under a client order id",
        unique_on("exchange_order", "client_order_id"),
    ),
    Check(
        "I7",
        "the exchange and the ledger count a symbol's fills alike",
        """
        SELECT q.symbol, q.sequence, p.version FROM exchange_quote q LEFT JOIN ledger_position p ON p.symbol = q.symbol
         WHERE q.sequence IS DISTINCT FROM p.version""",
    ),
    Check(
        "I7",
        "trades between orders count 1, 2, 3 ...",
        """
        SELECT q.symbol, q.trade_sequence, t.trades, t.first, t.last
          FROM exchange_quote q
          FULL JOIN (SELECT symbol, count(*) AS trades, count(DISTINCT sequence) AS sequences,
                            min(sequence) AS first, max(sequence) AS last,
                            bool_and(trade_id = symbol || '-X' || lpad(sequence::text, 12, '0')) AS named
                       FROM exchange_trade GROUP BY symbol) AS t ON t.symbol = q.symbol
         WHERE q.trade_sequence IS DISTINCT FROM coalesce(t.trades, 0) OR t.trades <> t.sequences
            OR t.first <> 1 OR t.last <> t.trades OR NOT t.named""",
        checked=TRADES,
    ),
)

_OVERFILL = (
    Check(
        "I8",
        "an order's fills and trades add up to what it says, and never to more than its quantity",
        """
        SELECT coalesce(o.client_order_id, f.client_order_id) AS client_order_id, o.status, o.quantity,
               o.filled_quantity, f.quantity AS traded_quantity, o.filled_notional, f.notional AS traded_notional
          FROM exchange_order o
          FULL JOIN (SELECT client_order_id, sum(quantity) AS quantity, sum(quantity * price) AS notional
                       FROM (SELECT client_order_id, quantity, price FROM ledger_fill
                             UNION ALL SELECT maker_order_id, quantity, price FROM exchange_trade
                             UNION ALL SELECT taker_order_id, quantity, price FROM exchange_trade) AS part
                      GROUP BY client_order_id) AS f ON f.client_order_id = o.client_order_id
         WHERE o.client_order_id IS NULL OR o.filled_quantity <> coalesce(f.quantity, 0)
            OR o.filled_notional <> coalesce(f.notional, 0) OR o.filled_quantity > o.quantity
            OR (o.status = 'filled') <> (o.filled_quantity = o.quantity)""",
        checked=ORDERS,
    ),
    Check(
        "I8",
        "the fills of a quote's side never exceed its size",
        """
        SELECT v.symbol, v.version, f.side, f.quantity AS filled,
               CASE f.side WHEN 'buy' THEN v.bid_quantity ELSE v.ask_quantity END AS quoted
          FROM (SELECT symbol, quote_version, side, sum(quantity) AS quantity
                  FROM ledger_fill GROUP BY symbol, quote_version, side) AS f
          JOIN exchange_quoteversion v ON v.symbol = f.symbol AND v.version = f.quote_version
         WHERE f.quantity > coalesce(CASE f.side WHEN 'buy' THEN v.bid_quantity ELSE v.ask_quantity END, 0)""",
        checked=VERSIONS,
    ),
    Check(
        "I8",
        "the live quote's remaining size is its size less its fills",
        """
        SELECT q.symbol, q.version, q.bid_quantity, v.bid_quantity - f.bought AS bid_expected,
               q.ask_quantity, v.ask_quantity - f.sold AS ask_expected
          FROM exchange_quote q
          JOIN exchange_quoteversion v ON v.symbol = q.symbol AND v.version = q.version
          LEFT JOIN LATERAL (SELECT coalesce(sum(quantity) FILTER (WHERE side = 'buy'), 0) AS bought,
                                    coalesce(sum(quantity) FILTER (WHERE side = 'sell'), 0) AS sold
                               FROM ledger_fill l
                              WHERE l.fill_id > q.symbol || '-' || lpad(v.after_sequence::text, 12, '0')
                                AND l.fill_id <= q.symbol || '-' || lpad(q.sequence::text, 12, '0')
                                AND l.symbol = q.symbol AND l.quote_version = q.version) AS f ON true
         WHERE q.published_at IS NOT NULL
           AND (coalesce(q.bid_quantity, 0) <> coalesce(v.bid_quantity, 0) - f.bought
                OR coalesce(q.ask_quantity, 0) <> coalesce(v.ask_quantity, 0) - f.sold)""",
        checked=SYMBOLS,
    ),
    Check("I8", "the database refuses an overfilled order", constraint_on("exchange_order", "order_holds")),
)

# Who rested decides the price: an order took if it never rested, or if its first answer already told of the fill.
# Of a fill whose quote has been dropped what the order says is judged (and by authority, that it had a tenure).
_FAIR_FILLS = f"""
    SELECT fill_id, quote_version, client_order_id, side, price, quantity, quoted_price, limit_price, filled_at,
           committed_at, valid_until,
           CASE WHEN version IS NULL AND NOT is_dropped OR withdrawn_reason IS NOT NULL THEN 'against no quote'
                WHEN order_side IS NULL THEN 'with no order'
                WHEN NOT is_dropped
                 AND (epoch, incarnation, node) IS DISTINCT FROM (quote_epoch, quote_incarnation, quote_node)
                THEN 'under another epoch than the quote''s'
                WHEN sequence <= after_sequence OR sequence > until_sequence THEN 'while the quote was not live'
                WHEN filled_at >= valid_until THEN 'after the quote had lapsed'
                WHEN committed_at >= valid_until + {COMMIT_ALLOWANCE} THEN 'committed when the quote was long over'
                WHEN order_side::text = side::text OR order_symbol <> symbol THEN 'on the wrong side'
                WHEN quoted_price IS NULL AND NOT is_dropped
                  OR CASE side WHEN 'buy' THEN price > quoted_price ELSE price < quoted_price END
                THEN 'beyond the quote''s price'
                WHEN CASE side WHEN 'buy' THEN price < limit_price ELSE price > limit_price END
                THEN 'beyond the order''s limit'
                WHEN price <> CASE WHEN took THEN quoted_price ELSE limit_price END
                THEN 'not at the resting side''s price'
                WHEN quantity > quoted_quantity OR quantity > order_quantity THEN 'larger than what it traded with'
                WHEN cancelled_at < filled_at THEN 'after the order was cancelled'
                WHEN tick_size IS NULL OR (fill_tick_size, fill_lot_size) IS DISTINCT FROM (tick_size, lot_size)
                  OR mod(price, tick_size) <> 0 OR mod(quantity, lot_size) <> 0 OR quantity <= 0 OR price <= 0
                THEN 'off tick or off lot'
           END AS unfair
      FROM (SELECT f.fill_id, f.symbol, f.sequence, f.quote_version, f.client_order_id, f.side, f.price, f.quantity,
                   f.epoch, f.incarnation, f.node, f.filled_at, pg_xact_commit_timestamp(f.xid::xid) AS committed_at,
                   f.tick_size AS fill_tick_size, f.lot_size AS fill_lot_size, s.tick_size, s.lot_size,
                   v.version, v.version IS NULL AND f.quote_version <= coalesce(r.version, 0) AS is_dropped,
                   v.withdrawn_reason, v.epoch AS quote_epoch, v.incarnation AS quote_incarnation,
                   v.node AS quote_node, v.after_sequence, v.until_sequence, v.valid_until,
                   CASE f.side WHEN 'buy' THEN v.bid_price ELSE v.ask_price END AS quoted_price,
                   CASE f.side WHEN 'buy' THEN v.bid_quantity ELSE v.ask_quantity END AS quoted_quantity,
                   o.side AS order_side, o.symbol AS order_symbol, o.price AS limit_price, o.quantity AS order_quantity,
                   CASE WHEN o.status = 'cancelled' THEN o.updated_at END AS cancelled_at,
                   o.first_answer IS NULL
                   OR o.first_answer -> 'fills' @> jsonb_build_array(jsonb_build_object('fill_id', f.fill_id)) AS took
              FROM ledger_fill f
              LEFT JOIN exchange_symbol s ON s.name = f.symbol
              LEFT JOIN (SELECT *, lead(after_sequence) OVER (PARTITION BY symbol ORDER BY version) AS until_sequence
                           FROM exchange_quoteversion) AS v ON v.symbol = f.symbol AND v.version = f.quote_version
              LEFT JOIN exchange_retention r ON r.symbol = f.symbol
              LEFT JOIN exchange_order o ON o.client_order_id = f.client_order_id) AS joined"""

_FAIR_TRADES = """
    SELECT t.trade_id, t.maker_order_id, m.side AS maker_side, m.price AS maker_price, t.taker_order_id,
           k.side AS taker_side, k.price AS taker_price, t.price, t.quantity
      FROM exchange_trade t
      LEFT JOIN exchange_symbol s ON s.name = t.symbol
      LEFT JOIN exchange_order m ON m.client_order_id = t.maker_order_id
      LEFT JOIN exchange_order k ON k.client_order_id = t.taker_order_id
     WHERE m.id IS NULL OR k.id IS NULL OR s.name IS NULL OR m.symbol <> t.symbol OR k.symbol <> t.symbol
        OR m.side::text = k.side::text OR m.id >= k.id OR m.time_in_force <> 'GTC' OR t.price <> m.price
        OR CASE k.side WHEN 'buy' THEN t.price > k.price ELSE t.price < k.price END
        OR t.quantity > m.quantity OR t.quantity > k.quantity OR t.quantity <= 0
        OR mod(t.price, s.tick_size) <> 0 OR mod(t.quantity, s.lot_size) <> 0
        OR m.status = 'cancelled' AND m.updated_at < t.traded_at"""

# An order that crosses the quote passes over the book when this says that nothing there is as good.
_BOOK = """
    SELECT q.symbol, q.book_bid, b.bid, q.book_ask, b.ask
      FROM exchange_quote q
      LEFT JOIN (SELECT symbol, max(price) FILTER (WHERE side = 'buy') AS bid,
                        min(price) FILTER (WHERE side = 'sell') AS ask
                   FROM exchange_order WHERE status IN ('resting', 'partially_filled') GROUP BY symbol) AS b
             ON b.symbol = q.symbol
     WHERE (q.book_bid, q.book_ask) IS DISTINCT FROM (b.bid, b.ask)"""

_FAIR = (
    Check(
        "I9",
        "each fill lies within its quote and its order, both live then, on tick and on lot",
        f"SELECT * FROM ({_FAIR_FILLS}) AS f WHERE unfair IS NOT NULL",
        checked=FILLS,
        note="""
        SELECT nullif(concat_ws('; ',
                   CASE WHEN count(dropped) > 0
                        THEN count(dropped) || ' fills are older than the quote versions that are kept: judged by their'
                             || ' orders and tenures only' END,
                   CASE WHEN count(*) > count(committed_at)
                        THEN count(*) - count(committed_at) || ' fills are older than the commit times that the server'
                             || ' keeps: judged by their own times only' END), '')
          FROM (SELECT r.symbol AS dropped, pg_xact_commit_timestamp(f.xid::xid) AS committed_at FROM ledger_fill f
                  LEFT JOIN exchange_retention r ON r.symbol = f.symbol AND r.version >= f.quote_version) AS f""",
    ),
    Check("I9", "the quote's row knows the best price that rests on each side of the book", _BOOK, checked=SYMBOLS),
    Check(
        "I9",
        "each trade between orders is at the resting one's price, within the other's limit",
        _FAIR_TRADES,
        checked=TRADES,
    ),
    Check(
        "I9",
        "every order and quote version is on tick and on lot",
        """
        SELECT 'order ' || o.client_order_id AS what, o.price, o.quantity
          FROM exchange_order o LEFT JOIN exchange_symbol s ON s.name = o.symbol
         WHERE s.name IS NULL OR o.quantity <= 0 OR mod(o.quantity, s.lot_size) <> 0 OR o.price <= 0
            OR mod(o.price, s.tick_size) <> 0
        UNION ALL
        SELECT 'quote ' || v.symbol || ' version ' || v.version, coalesce(v.bid_price, v.ask_price),
               coalesce(v.bid_quantity, v.ask_quantity)
          FROM exchange_quoteversion v LEFT JOIN exchange_symbol s ON s.name = v.symbol
         WHERE s.name IS NULL OR v.bid_price <= 0 OR v.ask_price <= 0 OR v.bid_quantity <= 0 OR v.ask_quantity <= 0
            OR mod(v.bid_price, s.tick_size) <> 0 OR mod(v.ask_price, s.tick_size) <> 0
            OR mod(v.bid_quantity, s.lot_size) <> 0 OR mod(v.ask_quantity, s.lot_size) <> 0
            OR v.bid_price >= v.ask_price""",
        checked=VERSIONS,
    ),
    Check(
        "I9",
        "the database refuses to change a trade",
        triggers_on("exchange_trade", "append_only_row", "append_only_table"),
    ),
)

# Publications and fills among the toggles of their symbol, by the time of their commits: toggle, quote and fill all
# happen under the quote row's lock, and a commit gets its time before it lets go of its locks.
_SWITCHED_OFF = """
    WITH switch AS MATERIALIZED (
        SELECT target AS symbol, pg_xact_commit_timestamp(xid::xid) AS committed_at, action = 'quoting_off' AS off
          FROM journal_audit WHERE action IN ('quoting_on', 'quoting_off')
    ), off AS MATERIALIZED (
        SELECT symbol, committed_at AS off_at, coalesce(on_at, 'infinity') AS on_at
          FROM (SELECT symbol, committed_at, off,
                       min(committed_at) FILTER (WHERE NOT off) OVER (
                           PARTITION BY symbol ORDER BY committed_at, off
                           ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS on_at,
                       lag(off) OVER (PARTITION BY symbol ORDER BY committed_at, off) AS was_off
                  FROM switch WHERE committed_at IS NOT NULL) AS s
         WHERE off AND NOT coalesce(was_off, false)
    )"""
_WHILE_OFF = f"""
    {_SWITCHED_OFF}, first AS (
        SELECT symbol, min(off_at) AS off_at FROM off GROUP BY symbol
    ), done AS (
        SELECT v.symbol, 'quote version ' || v.version AS what, pg_xact_commit_timestamp(v.xmin) AS committed_at
          FROM exchange_quoteversion v JOIN first ON first.symbol = v.symbol
         WHERE v.withdrawn_reason IS NULL AND pg_xact_commit_timestamp(v.xmin) > first.off_at
        UNION ALL
        SELECT f.symbol, 'fill ' || f.fill_id, pg_xact_commit_timestamp(f.xid::xid)
          FROM ledger_fill f JOIN first ON first.symbol = f.symbol
         WHERE pg_xact_commit_timestamp(f.xid::xid) > first.off_at
    ), ordered AS (
        -- Each off period reaches down to what was done after it began: a merge by time, not a join by range.
        SELECT symbol, what, committed_at, NULL::timestamptz AS off_at, NULL::timestamptz AS on_at FROM done
        UNION ALL SELECT symbol, NULL, off_at, off_at, on_at FROM off
    )
    SELECT symbol, what, committed_at, off_at, on_at
      FROM (SELECT symbol, what, committed_at, max(off_at) OVER w AS off_at, max(on_at) OVER w AS on_at
              FROM ordered WINDOW w AS (PARTITION BY symbol ORDER BY committed_at)) AS merged
     WHERE what IS NOT NULL AND committed_at > off_at AND committed_at < on_at"""

_KILL_SWITCH = (
    Check(
        "I12",
        "nothing is quoted and nothing filled between the commits of off and on",
        _WHILE_OFF,
        checked="SELECT count(*) FROM journal_audit WHERE action = 'quoting_off'",
        note="""
        SELECT count(*) || ' toggles are older than the commit times that the server keeps'
          FROM journal_audit WHERE action IN ('quoting_on', 'quoting_off')
           AND pg_xact_commit_timestamp(xid::xid) IS NULL HAVING count(*) > 0
        UNION ALL SELECT NULL LIMIT 1""",
    ),
    Check(
        "I12",
        "a withdrawn quote has no later fill",
        """
        SELECT w.symbol, w.version AS withdrawn_version, w.withdrawn_reason, w.after_sequence, f.fill_id,
               f.quote_version
          FROM exchange_quoteversion w
          JOIN ledger_fill f ON f.symbol = w.symbol AND f.quote_version = w.version - 1
         WHERE w.withdrawn_reason IS NOT NULL AND f.sequence > w.after_sequence""",
        checked="SELECT count(*) FROM exchange_quoteversion WHERE withdrawn_reason IS NOT NULL",
    ),
    Check(
        "I12",
        "a symbol that is off has no quote",
        """
        SELECT symbol, version, published_at FROM exchange_quote
         WHERE NOT quoting_enabled AND published_at IS NOT NULL""",
        checked=SYMBOLS,
    ),
    Check("I12", "the database refuses a quote while off", constraint_on("exchange_quote", "i12_kill_is_final")),
    Check(
        "I13",
        "a symbol is on or off as its last audit row says",
        """
        SELECT q.symbol, q.quoting_enabled, a.id AS audit_id, a.after
          FROM exchange_quote q
          LEFT JOIN (SELECT DISTINCT ON (target) * FROM journal_audit WHERE action IN ('quoting_on', 'quoting_off')
                      ORDER BY target, id DESC) AS a ON a.target = q.symbol
         WHERE to_jsonb(q.quoting_enabled) IS DISTINCT FROM coalesce(a.after, 'true')""",
        checked=SYMBOLS,
    ),
    Check(
        "I13",
        "each toggle's audit row goes on from the one before it",
        """
        SELECT * FROM (SELECT id, at, actor, action, target, before, after,
                              lag(after, 1, 'true') OVER (PARTITION BY target ORDER BY id) AS expected_before
                         FROM journal_audit WHERE action IN ('quoting_on', 'quoting_off')) AS a
         WHERE before IS DISTINCT FROM expected_before OR after <> to_jsonb(action = 'quoting_on')""",
        checked="SELECT count(*) FROM journal_audit",
    ),
    Check(
        "I13",
        "each quote withdrawn by the switch has its audit row in the same commit",
        """
        SELECT v.symbol, v.version, v.published_at AS withdrawn_at FROM exchange_quoteversion v
         WHERE v.withdrawn_reason = 'quoting_disabled'
           AND NOT EXISTS (SELECT FROM journal_audit a
                            WHERE a.target = v.symbol AND a.action = 'quoting_off' AND a.xid::xid = v.xmin)""",
        checked="SELECT count(*) FROM exchange_quoteversion WHERE withdrawn_reason = 'quoting_disabled'",
    ),
    Check(
        "I13",
        "each change of parameters has its audit row",
        """
        SELECT s.name AS symbol, s.parameters_version, coalesce(a.changes, 0) AS audited_changes
          FROM exchange_symbol s
          LEFT JOIN (SELECT target, count(*) AS changes FROM journal_audit WHERE action = 'parameters'
                      GROUP BY target) AS a ON a.target = s.name
         WHERE s.parameters_version <> coalesce(a.changes, 0) + 1""",
    ),
)

CHECKS = (*_QUOTES, *_POSITIONS, *_ONCE, *_OVERFILL, *_FAIR, *_KILL_SWITCH, *FLOW_CHECKS)
