"""The best price of each side of the book stands in the quote row, and an order's rules are checked by one function."""

import django.db.models.expressions
from django.db import migrations, models

import mmproject.fields
from mmproject.functions import drop_function, drop_pattern_indexes, sql_function

GATEWAY = ("mm_exchange", "mm_console")
AUTHORITY = ("mm_authority",)


class Migration(migrations.Migration):
    dependencies = [("exchange", "0004_quote_withdrawals"), ("ledger", "0003_fill_is_its_activity")]

    operations = [
        drop_pattern_indexes(
            "exchange_symbol",
            "exchange_price",
            "exchange_quote",
            "exchange_quoteversion",
            "exchange_order",
            "exchange_trade",
        ),
        migrations.RemoveConstraint(model_name="order", name="order_kind"),
        migrations.RemoveConstraint(model_name="order", name="order_on_grid"),
        migrations.RemoveConstraint(model_name="order", name="i8_no_overfill"),
        migrations.RemoveConstraint(model_name="order", name="order_status"),
        migrations.RemoveConstraint(model_name="quote", name="quote_whole"),
        sql_function("exchange_order_holds_v1", execute=("mm_exchange",)),
        migrations.AddConstraint(
            model_name="order",
            constraint=models.CheckConstraint(
                condition=django.db.models.expressions.RawSQL(
                    "exchange_order_holds_v1(exchange_order)", (), output_field=models.BooleanField()
                ),
                name="order_holds",
            ),
        ),
        migrations.AddConstraint(
            model_name="quoteversion",
            constraint=models.CheckConstraint(
                condition=django.db.models.expressions.RawSQL(
                    "num_nulls(bid_price, bid_quantity) <> 1 AND num_nulls(ask_price, ask_quantity) <> 1",
                    (),
                    output_field=models.BooleanField(),
                ),
                name="quote_version_whole",
            ),
        ),
        migrations.AddField(
            model_name="quote",
            name="book_bid",
            field=mmproject.fields.AmountField(decimal_places=18, domain="mm_amount", max_digits=38, null=True),
        ),
        migrations.AddField(
            model_name="quote",
            name="book_ask",
            field=mmproject.fields.AmountField(decimal_places=18, domain="mm_amount", max_digits=38, null=True),
        ),
        drop_function("exchange_submit_order_v1"),
        drop_function("exchange_submit_orders_v1"),
        drop_function("exchange_cancel_order_v1"),
        drop_function("exchange_replace_quotes_v1"),
        drop_function("exchange_match_quote_v1"),
        sql_function("exchange_note_book_v1", owner="mm_exchange"),
        migrations.RunSQL(
            """
            UPDATE exchange_quote q
               SET book_bid = (SELECT max(price) FROM exchange_order o WHERE o.symbol = q.symbol
                                  AND o.side = 'buy' AND o.status IN ('resting', 'partially_filled')),
                   book_ask = (SELECT min(price) FROM exchange_order o WHERE o.symbol = q.symbol
                                  AND o.side = 'sell' AND o.status IN ('resting', 'partially_filled'));
            """,
            reverse_sql=migrations.RunSQL.noop,
        ),
        sql_function("exchange_match_quote_v2", owner="mm_exchange"),
        sql_function("exchange_replace_quotes_v2", owner="mm_exchange", execute=AUTHORITY),
        sql_function("exchange_match_order_v1", owner="mm_exchange"),
        sql_function("exchange_submit_order_v2", owner="mm_exchange", execute=GATEWAY),
        sql_function("exchange_cancel_order_v2", owner="mm_exchange", execute=GATEWAY),
        sql_function("exchange_submit_orders_v2", owner="mm_exchange", execute=GATEWAY),
    ]
