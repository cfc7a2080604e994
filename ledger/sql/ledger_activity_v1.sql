-- All that happened, in one list: the journal's entries, and the fills, each of which is its own. Read it in the order of
-- (xid, id) and below pg_snapshot_xmin: every transaction below it has ended, so that nothing can appear before what was read.
CREATE VIEW ledger_activity AS
    SELECT xid, id, at, kind, symbol, node, data FROM journal_activity
    UNION ALL
    SELECT xid, activity_id, filled_at, 'fill', symbol, node,
           jsonb_build_object('fill_id', fill_id, 'side', side, 'price', trim_scale(price)::text,
                              'quantity', trim_scale(quantity)::text, 'client_order_id', client_order_id,
                              'quote_version', quote_version, 'epoch', epoch, 'position', trim_scale(quantity_after)::text)
      FROM ledger_fill;
GRANT SELECT ON ledger_activity TO mm_exchange, mm_ledger, mm_authority, mm_node, mm_console;
