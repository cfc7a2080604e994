"""The exchange's functions and who may call them."""

from django.db import migrations

from mmproject.functions import append_only, sql_function

WORKER = ("mm_exchange",)
GATEWAY = ("mm_exchange", "mm_console")
AUTHORITY = ("mm_authority",)


class Migration(migrations.Migration):
    dependencies = [("exchange", "0001_initial"), ("ledger", "0002_functions")]

    operations = [
        migrations.RunSQL(
            """
            ALTER TABLE exchange_quote SET (fillfactor = 50);
            ALTER TABLE exchange_price SET (fillfactor = 50);
            ALTER TABLE exchange_clock SET (fillfactor = 10);
            ALTER TABLE exchange_order SET (fillfactor = 90);
            GRANT SELECT ON exchange_symbol, exchange_clock, exchange_price, exchange_quote, exchange_quoteversion,
                            exchange_order, exchange_trade
                TO mm_exchange, mm_ledger, mm_authority, mm_node, mm_console;
            GRANT INSERT, UPDATE ON exchange_symbol, exchange_clock, exchange_price, exchange_quote, exchange_order
                TO mm_exchange;
            GRANT INSERT ON exchange_quoteversion, exchange_trade TO mm_exchange;
            GRANT USAGE ON SEQUENCE exchange_order_id_seq TO mm_exchange;
            """,
            reverse_sql=migrations.RunSQL.noop,
        ),
        append_only("exchange_quoteversion"),
        append_only("exchange_trade"),
        migrations.RunSQL(
            """
            CREATE VIEW exchange_position_marked AS
                SELECT p.symbol, p.quantity, coalesce(round(p.cost / nullif(p.quantity, 0), 10), 0) AS average_cost,
                       p.cash, p.cash + p.cost AS realised_pnl, p.quantity * m.price - p.cost AS unrealised_pnl, p.version, p.updated_at, m.price AS mark_price
                  FROM ledger_position p JOIN exchange_price m ON m.symbol = p.symbol;
            GRANT SELECT ON exchange_position_marked TO mm_exchange, mm_ledger, mm_authority, mm_node, mm_console;
            """,
            reverse_sql="DROP VIEW exchange_position_marked",
        ),
        sql_function("exchange_order_answer_v1", execute=GATEWAY),
        sql_function("exchange_withdraw_quotes_v1", owner="mm_exchange"),
        sql_function("exchange_raise_fence_v1", owner="mm_exchange", execute=AUTHORITY),
        sql_function("exchange_drop_fence_v1", owner="mm_exchange", execute=AUTHORITY),
        sql_function("exchange_match_quote_v1", owner="mm_exchange"),
        sql_function("exchange_replace_quotes_v1", owner="mm_exchange", execute=AUTHORITY),
        sql_function("exchange_submit_order_v1", owner="mm_exchange", execute=GATEWAY),
        sql_function("exchange_cancel_order_v1", owner="mm_exchange", execute=GATEWAY),
        sql_function("exchange_submit_orders_v1", owner="mm_exchange", execute=GATEWAY),
        sql_function("exchange_order_state_v1", owner="mm_exchange", execute=GATEWAY),
        sql_function("exchange_add_symbols_v1", owner="mm_exchange", execute=WORKER),
        sql_function("exchange_start_clock_v1", owner="mm_exchange", execute=WORKER),
        sql_function("exchange_advance_clock_v1", owner="mm_exchange", execute=WORKER),
        sql_function("exchange_orders_done_v1", owner="mm_exchange", execute=WORKER),
        sql_function("exchange_set_quoting_v1", owner="mm_exchange", execute=("mm_console",)),
        sql_function("exchange_set_parameters_v1", owner="mm_exchange", execute=("mm_console",)),
    ]
