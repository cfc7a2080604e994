-- The components' roles (DESIGN, section 2). They are made without LOGIN; set-up gives a password to the three
-- that processes connect as (mm_exchange, mm_console, mm_node). mm_ledger and mm_authority only own functions.
DO $$
DECLARE
    v_role text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['mm_exchange', 'mm_ledger', 'mm_authority', 'mm_node', 'mm_console'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', v_role);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- roles belong to the server: another database on it may have made them, even just now
        END;
        -- A function's owner can only be set by who may SET ROLE to it. From version 16 on, whoever made a role
        -- without being a superuser administers it, which counts as membership but does not include that.
        IF NOT pg_has_role(current_user, v_role,
                           CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END) THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', v_role);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), v_role);
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', v_role);
    END LOOP;
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
END
$$;
