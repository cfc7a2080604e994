-- Trigger: a tenure's only change is its end, once. Whatever else is tried on the history fails, for every role (I2, I3).
CREATE FUNCTION authority_tenure_history_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL
       AND (NEW.id, NEW.xid, NEW.symbol, NEW.epoch, NEW.incarnation, NEW.node, NEW.granted_at)
           = (OLD.id, OLD.xid, OLD.symbol, OLD.epoch, OLD.incarnation, OLD.node, OLD.granted_at) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'authority_tenure is history: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
