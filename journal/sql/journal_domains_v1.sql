-- The vocabulary of the tables. A price or a quantity is more than 0 and less than 10^15, so that neither NaN (which
-- PostgreSQL sorts above every number) nor Infinity fits.
CREATE DOMAIN mm_amount AS numeric CHECK (VALUE > 0 AND VALUE < 1e15);
CREATE DOMAIN mm_side AS text CHECK (VALUE IN ('buy', 'sell'));
CREATE DOMAIN mm_order_type AS text CHECK (VALUE IN ('limit', 'market'));
CREATE DOMAIN mm_time_in_force AS text CHECK (VALUE IN ('GTC', 'IOC', 'FOK'));
CREATE DOMAIN mm_order_status AS text
    CHECK (VALUE IN ('filled', 'partially_filled', 'resting', 'cancelled', 'rejected'));
