"""The floors' own tables and functions: the least that PostgreSQL has to do for work of the same size.

They live in a schema of the scratch database, so that figure and floor share one server, one log and one disk.
"""

from __future__ import annotations

from typing import Final

from bench.scaffold import Connection

SCHEMA: Final = "floor"

INSERT: Final = "INSERT INTO floor.entry (note) VALUES ('one row, committed');\n"
TOUCH: Final = "SELECT floor.touch(1)"

# What a quote's replacement writes, in the same widths, with no fence, no checks and nobody to judge.
REPLACE: Final = """
    WITH replaced AS (
        UPDATE floor.quote q
           SET version = q.version + 1, bid_price = i.bid_price, bid_quantity = i.bid_quantity,
               ask_price = i.ask_price, ask_quantity = i.ask_quantity, published_at = clock_timestamp()
          FROM unnest($1::text[], $2::numeric[], $3::numeric[], $4::numeric[], $5::numeric[])
                   AS i (symbol, bid_price, bid_quantity, ask_price, ask_quantity)
         WHERE q.symbol = i.symbol
        RETURNING q.*
    ), recorded AS (
        INSERT INTO floor.quoteversion (symbol, version, bid_price, bid_quantity, ask_price, ask_quantity, epoch,
                                        incarnation, node, published_at, valid_until, after_sequence,
                                        tick_size, lot_size)
        SELECT symbol, version, bid_price, bid_quantity, ask_price, ask_quantity, quote_epoch,
               quote_incarnation, quote_node, published_at, valid_until, sequence, tick_size, lot_size
          FROM replaced
        RETURNING 1
    )
    SELECT count(*) FROM recorded
"""

_MAKE: Final = """
    CREATE SCHEMA floor;
    CREATE TABLE floor.entry (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz DEFAULT clock_timestamp(), note text
    );
    CREATE TABLE floor.touched (id integer PRIMARY KEY, at timestamptz) WITH (fillfactor = 50);
    INSERT INTO floor.touched VALUES (1, clock_timestamp());
    CREATE FUNCTION floor.touch(p_id integer) RETURNS timestamptz LANGUAGE plpgsql AS $$
    DECLARE v_at timestamptz;
    BEGIN
        UPDATE floor.touched SET at = clock_timestamp() WHERE id = p_id RETURNING at INTO v_at;
        RETURN v_at;
    END
    $$;
    GRANT USAGE ON SCHEMA floor TO mm_node;
    GRANT SELECT, UPDATE ON floor.touched TO mm_node;
"""

# The columns of the real ones as they are now, and of their indexes the one or two that identify a row.
_QUOTES: Final = """
    CREATE TABLE floor.quote (LIKE exchange_quote INCLUDING DEFAULTS) WITH (fillfactor = 50);
    CREATE TABLE floor.quoteversion (LIKE exchange_quoteversion);
    ALTER TABLE floor.quoteversion ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;
    ALTER TABLE floor.quote ADD PRIMARY KEY (symbol);
    ALTER TABLE floor.quoteversion ADD PRIMARY KEY (id), ADD UNIQUE (symbol, version);
    GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA floor TO mm_node;
    INSERT INTO floor.quote SELECT * FROM exchange_quote;
"""


def make(connection: Connection) -> None:
    """The schema, the table of single inserts, and the function that updates one row."""
    connection.execute(_MAKE)


def make_quotes(connection: Connection) -> None:
    """The unfenced pair, with the rows that the real quotes have now (which have been published)."""
    connection.execute(_QUOTES)
