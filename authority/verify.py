"""Authority's side of `verify`: leases, tenures, the fence's history, drains, as queries for what breaks them."""

# ruff: noqa: S608 - queries are put together from constants of this project only
from __future__ import annotations

from mmproject.invariants import Check, constraint_on, triggers_on, unique_on
from mmproject.provision import ROLE_LIMITS

TENURES = "SELECT count(*) FROM authority_tenure"
LEASES = "SELECT count(*) FROM authority_lease"
QUOTES = "SELECT count(*) FROM exchange_quoteversion WHERE withdrawn_reason IS NULL"

TRANSACTION_TIMEOUT = f"interval '{ROLE_LIMITS['mm_node']['transaction_timeout']}'"
FRESH_AFTER = "interval '10 seconds'"  # held, enabled and registered for that long
FRESH_FOR = "interval '5 seconds'"
UNCOVERED_ALLOWANCE = "interval '2 seconds'"  # on top of the TTL

# When a tenure is over: when it was ended; or, while nobody has swept it yet, when its incarnation expired, since an
# incarnation that expired never comes back.
_TENURE_OVER = "coalesce(t.ended_at, CASE WHEN i.expires_at < %(at)s THEN greatest(i.expires_at, t.granted_at) END)"

_LEASES = (
    Check(
        "I1",
        "a symbol has one lease",
        "SELECT symbol, count(*) AS leases FROM authority_lease GROUP BY symbol HAVING count(*) > 1",
        checked=LEASES,
    ),
    Check("I1", "the database refuses a second lease", unique_on("authority_lease", "symbol")),
    Check(
        "I1",
        "a lease's holder is one incarnation that has not ended",
        """
        SELECT l.symbol, l.epoch, l.incarnation, l.node, i.node AS incarnation_node, i.ended_at
          FROM authority_lease l LEFT JOIN authority_incarnation i ON i.id = l.incarnation
         WHERE l.incarnation IS NULL AND l.node IS NOT NULL
            OR l.incarnation IS NOT NULL
               AND (i.id IS NULL OR i.ended_at IS NOT NULL OR l.node IS DISTINCT FROM i.node)""",
    ),
    Check(
        "I1",
        "a held lease is an open tenure, and an open tenure is a held lease",
        """
        SELECT coalesce(l.symbol, t.symbol) AS symbol, l.epoch AS lease_epoch, l.incarnation AS lease_incarnation,
               t.epoch AS tenure_epoch, t.incarnation AS tenure_incarnation
          FROM (SELECT * FROM authority_lease WHERE incarnation IS NOT NULL) AS l
          FULL JOIN (SELECT * FROM authority_tenure WHERE ended_at IS NULL) AS t
            ON (t.symbol, t.epoch, t.incarnation, t.granted_at) = (l.symbol, l.epoch, l.incarnation, l.granted_at)
         WHERE l.symbol IS NULL OR t.symbol IS NULL""",
    ),
    Check(
        "I1",
        "the fence in front of a symbol's quote names the lease's holder and epoch",
        """
        SELECT coalesce(q.symbol, l.symbol) AS symbol, q.epoch AS fence_epoch, q.holder AS fence_holder,
               l.epoch AS lease_epoch, l.incarnation AS lease_holder
          FROM exchange_quote q FULL JOIN authority_lease l ON l.symbol = q.symbol
         WHERE q.symbol IS NULL OR (q.epoch, q.holder, q.node)
               IS DISTINCT FROM (coalesce(l.epoch, 0), l.incarnation, l.node)""",
        checked="SELECT count(*) FROM exchange_quote",
    ),
    Check(
        "I1",
        "a node has one live incarnation",
        """
        SELECT node, count(*) AS incarnations FROM authority_incarnation WHERE ended_at IS NULL
         GROUP BY node HAVING count(*) > 1""",
    ),
)

_TENURES = (
    Check(
        "I2",
        "each tenure's epoch is one more than the one before it",
        """
        SELECT * FROM (SELECT symbol, epoch, lag(epoch) OVER w AS previous_epoch, node, granted_at,
                              lag(granted_at) OVER w AS previous_granted_at
                         FROM authority_tenure WINDOW w AS (PARTITION BY symbol ORDER BY id)) AS t
         WHERE epoch <> coalesce(previous_epoch, 0) + 1 OR granted_at < previous_granted_at""",
        checked=TENURES,
    ),
    Check(
        "I2",
        "a lease's epoch is its last tenure's",
        """
        SELECT coalesce(l.symbol, t.symbol) AS symbol, l.epoch, t.epoch AS last_tenure_epoch
          FROM authority_lease l
          FULL JOIN (SELECT symbol, max(epoch) AS epoch FROM authority_tenure GROUP BY symbol) AS t
            ON t.symbol = l.symbol
         WHERE l.epoch IS DISTINCT FROM coalesce(t.epoch, 0)""",
        checked=LEASES,
    ),
    Check("I2", "the database refuses an epoch a second time", unique_on("authority_tenure", "symbol", "epoch")),
    Check(
        "I2",
        "the database refuses to rewrite a tenure",
        triggers_on("authority_tenure", "history_row", "history_table"),
    ),
    Check(
        "I3",
        "no tenure of a symbol begins before all earlier ones have ended",
        """
        SELECT * FROM (SELECT symbol, epoch, node, granted_at, ended_at,
                              max(coalesce(ended_at, 'infinity')) OVER (
                                  PARTITION BY symbol ORDER BY granted_at, epoch
                                  ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS earlier_ended_at
                         FROM authority_tenure WHERE ended_at IS DISTINCT FROM granted_at) AS t
         WHERE granted_at < earlier_ended_at OR ended_at < granted_at""",
        checked=TENURES,
    ),
    Check(
        "I3",
        "the database's exclusion constraint is there and valid",
        constraint_on("authority_tenure", "i3_no_overlap"),
    ),
    Check(
        "I3",
        "the exclusion constraint compares what it should",
        """
        SELECT pg_get_constraintdef(oid) AS definition FROM pg_constraint
         WHERE conrelid = 'authority_tenure'::regclass AND conname = 'i3_no_overlap'
           AND (contype <> 'x' OR pg_get_constraintdef(oid)
                <> 'EXCLUDE USING gist (symbol WITH =, tstzrange(granted_at, ended_at) WITH &&)')""",
    ),
)

_FENCED = """
    SELECT v.symbol, v.version, v.epoch, v.node, pg_xact_commit_timestamp(v.xmin) AS committed_at,
           g.granted_at, g.next_granted_at
      FROM exchange_quoteversion v
      JOIN (SELECT symbol, epoch, incarnation, xid::xid AS xid, pg_xact_commit_timestamp(xid::xid) AS granted_at,
                   lead(xid::xid) OVER (PARTITION BY symbol ORDER BY epoch) AS next_xid,
                   min(pg_xact_commit_timestamp(xid::xid)) OVER (
                       PARTITION BY symbol ORDER BY epoch
                       ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS next_granted_at
              FROM authority_tenure) AS g
        ON (g.symbol, g.epoch, g.incarnation) = (v.symbol, v.epoch, v.incarnation)
     WHERE v.withdrawn_reason IS NULL
       AND (pg_xact_commit_timestamp(v.xmin) > g.next_granted_at OR v.xmin = g.next_xid
            OR pg_xact_commit_timestamp(v.xmin) < g.granted_at OR v.xmin = g.xid)"""

_FENCE = (
    Check(
        "I4",
        "commit times are kept",
        """SELECT 'track_commit_timestamp = on' AS missing WHERE current_setting('track_commit_timestamp') <> 'on'""",
    ),
    Check(
        "I4",
        "each quote version belongs to a tenure",
        """
        SELECT v.* FROM (SELECT symbol, epoch, incarnation, node, count(*) AS versions, min(version) AS first_version
                           FROM exchange_quoteversion GROUP BY symbol, epoch, incarnation, node) AS v
         WHERE NOT EXISTS (SELECT FROM authority_tenure t
                            WHERE (t.symbol, t.epoch, t.incarnation, t.node)
                                  = (v.symbol, v.epoch, v.incarnation, v.node))""",
    ),
    # Fills and tenures are kept for ever, quotes are not: this still holds a fill to its right when its quote is gone.
    Check(
        "I4",
        "each fill was made under a tenure",
        """
        SELECT f.* FROM (SELECT symbol, epoch, incarnation, node, count(*) AS fills, min(fill_id) AS first_fill
                           FROM ledger_fill GROUP BY symbol, epoch, incarnation, node) AS f
         WHERE NOT EXISTS (SELECT FROM authority_tenure t
                            WHERE (t.symbol, t.epoch, t.incarnation, t.node)
                                  = (f.symbol, f.epoch, f.incarnation, f.node))""",
        checked="SELECT count(*) FROM ledger_fill",
    ),
    Check(
        "I4",
        "each quote committed after its own epoch's grant and before any later one's",
        _FENCED,
        checked=QUOTES,
        note="""
        SELECT CASE WHEN count(*) > 0 THEN count(*) || ' quote versions are older than the commit times that the'
                    || ' server keeps: judged by the order of their epochs only' END
          FROM exchange_quoteversion
         WHERE withdrawn_reason IS NULL AND pg_xact_commit_timestamp(xmin) IS NULL""",
    ),
    Check(
        "I5",
        "no quote committed later than its tenure's end plus the transaction timeout",
        f"""
        SELECT v.symbol, v.version, v.epoch, v.node, pg_xact_commit_timestamp(v.xmin) AS committed_at, t.over_at,
               t.reason
          FROM exchange_quoteversion v
          JOIN (SELECT t.symbol, t.epoch, t.incarnation, t.reason, {_TENURE_OVER} AS over_at
                  FROM authority_tenure t LEFT JOIN authority_incarnation i ON i.id = t.incarnation) AS t
            ON (t.symbol, t.epoch, t.incarnation) = (v.symbol, v.epoch, v.incarnation)
         WHERE v.withdrawn_reason IS NULL
           AND pg_xact_commit_timestamp(v.xmin) > t.over_at + {TRANSACTION_TIMEOUT}""",
        checked=QUOTES,
    ),
)

_FRESH = (
    Check(
        "I11",
        "a symbol that a healthy node holds has a quote of the last 5 s",
        f"""
        SELECT q.symbol, l.node, l.epoch, l.granted_at, v.published_at, v.withdrawn_reason,
               %(at)s - v.published_at AS age
          FROM exchange_quote q
          JOIN authority_lease l ON l.symbol = q.symbol
          JOIN authority_incarnation i ON i.id = l.incarnation
          LEFT JOIN LATERAL (SELECT * FROM exchange_quoteversion n WHERE n.symbol = q.symbol
                              ORDER BY n.version DESC LIMIT 1) AS v ON true
         WHERE q.quoting_enabled AND i.ended_at IS NULL AND i.expires_at > %(at)s
           -- Who has not renewed for half its TTL, now or in the last 10 s, is not healthy: stopped, cut off, starved.
           -- Nor is who has lost its session: it can't quote, and expires unless it is ended before.
           AND i.expires_at - %(at)s > i.ttl_ms * interval '0.5 milliseconds'
           AND i.serial = ANY (%(sessions)s)
           AND l.granted_at <= %(at)s - {FRESH_AFTER} AND i.steady_since <= %(at)s - {FRESH_AFTER}
           AND NOT EXISTS (SELECT FROM journal_audit a
                            WHERE a.target = q.symbol AND a.action IN ('quoting_on', 'quoting_off')
                              AND a.at > %(at)s - {FRESH_AFTER})
           AND (v.version IS NULL OR v.withdrawn_reason IS NOT NULL OR v.published_at < %(at)s - {FRESH_FOR})""",
        checked="SELECT count(*) FROM authority_lease WHERE incarnation IS NOT NULL",
    ),
)

_DRAINS = (
    Check(
        "I13",
        "a node drains as its last audit row says",
        """
        SELECT n.name AS node, n.draining, a.id AS audit_id, a.after
          FROM authority_node n
          LEFT JOIN (SELECT DISTINCT ON (target) * FROM journal_audit WHERE action IN ('drain', 'undrain')
                      ORDER BY target, id DESC) AS a ON a.target = n.name
         WHERE to_jsonb(n.draining) IS DISTINCT FROM coalesce(a.after, 'false')""",
        checked="SELECT count(*) FROM authority_node",
    ),
    Check(
        "I13",
        "each drain's audit row goes on from the one before it",
        """
        SELECT * FROM (SELECT id, at, actor, action, target, before, after,
                              lag(after, 1, 'false') OVER (PARTITION BY target ORDER BY id) AS expected_before
                         FROM journal_audit WHERE action IN ('drain', 'undrain')) AS a
         WHERE before IS DISTINCT FROM expected_before OR after <> to_jsonb(action = 'drain')""",
    ),
    Check(
        "I13",
        "every audit row says who",
        "SELECT id, at, action, target FROM journal_audit WHERE coalesce(trim(actor), '') = '' OR at IS NULL",
        checked="SELECT count(*) FROM journal_audit",
    ),
    Check(
        "I13",
        "the database refuses to change an audit row",
        triggers_on("journal_audit", "append_only_row", "append_only_table"),
    ),
)

# When some node was certainly healthy: from its registration to its last renewal (expires_at less the TTL), or to its
# end if that came first, less the times when an operator was draining it.
_HEALTHY = """
    drained AS MATERIALIZED (
        SELECT target AS node, range_agg(tstzrange(at, until)) AS during
          FROM (SELECT target, at, action, lead(at) OVER (PARTITION BY target ORDER BY id) AS until
                  FROM journal_audit WHERE action IN ('drain', 'undrain')) AS a
         WHERE action = 'drain' AND (until IS NULL OR until >= at) GROUP BY target
    ), healthy AS MATERIALIZED (
        SELECT range_agg(tstzmultirange(tstzrange(i.registered_at, i.until)) - coalesce(d.during, '{}')) AS during
          FROM (SELECT node, registered_at,
                       least(expires_at - ttl_ms * interval '1 millisecond', ended_at, %(at)s) AS until
                  FROM authority_incarnation) AS i
          LEFT JOIN drained d ON d.node = i.node
         WHERE i.until > i.registered_at
    )"""

_UNCOVERED = f"""
    WITH {_HEALTHY}, off AS MATERIALIZED (
        SELECT target AS symbol, range_agg(tstzrange(at, until)) AS during
          FROM (SELECT target, at, action, lead(at) OVER (PARTITION BY target ORDER BY id) AS until
                  FROM journal_audit WHERE action IN ('quoting_on', 'quoting_off')) AS a
         WHERE action = 'quoting_off' AND (until IS NULL OR until >= at) GROUP BY target
    ), held AS (
        SELECT t.symbol, t.epoch, t.granted_at, coalesce({_TENURE_OVER}, 'infinity') AS over_at
          FROM authority_tenure t LEFT JOIN authority_incarnation i ON i.id = t.incarnation
        UNION ALL SELECT name, 0, added_at, added_at FROM exchange_symbol
    ), gap AS (
        SELECT symbol, epoch, over_at AS since, least(coalesce(next_granted_at, %(at)s), %(at)s) AS until
          FROM (SELECT *, lead(granted_at) OVER (PARTITION BY symbol ORDER BY epoch) AS next_granted_at
                  FROM held) AS h
         WHERE over_at < least(coalesce(next_granted_at, %(at)s), %(at)s) - {UNCOVERED_ALLOWANCE}
    )
    SELECT g.symbol, g.epoch AS after_epoch, lower(u.during) AS uncovered_since, upper(u.during) AS uncovered_until,
           extract(epoch FROM upper(u.during) - lower(u.during))::numeric(12, 3) AS seconds,
           extract(epoch FROM a.allowed)::numeric(12, 3) AS allowed_seconds
      FROM gap g
      CROSS JOIN healthy h
      LEFT JOIN off ON off.symbol = g.symbol
     CROSS JOIN LATERAL unnest(tstzmultirange(tstzrange(g.since, g.until)) * h.during
                               - coalesce(off.during, '{{}}')) AS u (during)
     CROSS JOIN LATERAL (
         SELECT {UNCOVERED_ALLOWANCE} + coalesce(max(i.ttl_ms), 0) * interval '1 millisecond'
           FROM authority_incarnation i
          WHERE i.registered_at < g.until AND coalesce(i.ended_at, 'infinity') >= g.since) AS a (allowed)
     WHERE upper(u.during) - lower(u.during) > a.allowed"""

_COVERED = (
    Check(
        "I14",
        "no enabled symbol was without a holder for longer than TTL + 2 s while a node was healthy",
        _UNCOVERED,
        checked="SELECT (SELECT count(*) FROM authority_tenure) + (SELECT count(*) FROM exchange_symbol)",
    ),
)

CHECKS = (*_LEASES, *_TENURES, *_FENCE, *_FRESH, *_DRAINS, *_COVERED)
