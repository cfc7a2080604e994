-- How the tables are vacuumed, wherever the server is: an external one has PostgreSQL's defaults, which are made for tables that
-- are large and slow. Nothing here is about freezing: the server keeps commit times back to its oldest unfrozen row, and I4, I5 and
-- I12 compare them.

-- A row for each symbol or node, updated many times a second, in place (HOT) and pruned as it goes. Only what a long snapshot kept
-- from being pruned is left to vacuum: it is few pages, so at once and without pauses; and their tail, cut off, would soon be back.
ALTER TABLE exchange_quote SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
                                autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
ALTER TABLE exchange_price SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
                                autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
ALTER TABLE ledger_position SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
                                 autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
ALTER TABLE authority_incarnation SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
                                       autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
-- One row on one page.
ALTER TABLE exchange_clock SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
                                autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);
-- They grow for ever: a share of them is more work each time and comes ever later. A resting order that trades changes its status,
-- which decides whether it is in the book's index, so that update is not in place: the index needs the vacuum.
ALTER TABLE exchange_order SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
                                autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
                                autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
-- Only ever added to: each vacuum reads the pages that are new since the last one, as many each time.
ALTER TABLE ledger_fill SET (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
                             autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE journal_activity SET (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
                                  autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
