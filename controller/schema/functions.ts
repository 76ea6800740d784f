// Functions and triggers of contract controller.md 3.3, in our own words. The rules that they hold are also checked
// by the API with better messages; here they stand for rows that come from elsewhere (a restored backup, SQL by hand).
import { tcpPortMax, tcpPortMin } from '../types.ts'

const events = `
CREATE FUNCTION notify_event() RETURNS trigger AS $body$
BEGIN
  PERFORM pg_notify('events', concat_ws(':', NEW.event_id, NEW.app_id));
  RETURN NULL;
END $body$ LANGUAGE plpgsql;
CREATE TRIGGER notify_event AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION notify_event();

CREATE FUNCTION deployment_status(deployment uuid) RETURNS text AS $body$
  SELECT data->>'status' FROM events
  WHERE object_type = 'deployment' AND object_id = deployment::text ORDER BY event_id DESC LIMIT 1
$body$ LANGUAGE sql STABLE;
`

const releases = `
CREATE FUNCTION check_release_delete() RETURNS trigger AS $body$
BEGIN
  IF NEW.deleted_at IS NOT NULL
     AND EXISTS (SELECT 1 FROM apps WHERE release_id = NEW.release_id AND deleted_at IS NULL) THEN
    RAISE EXCEPTION 'cannot delete current app release' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $body$ LANGUAGE plpgsql;
CREATE TRIGGER check_release_delete BEFORE UPDATE ON releases
  FOR EACH ROW EXECUTE FUNCTION check_release_delete();

CREATE FUNCTION check_artifact_manifest() RETURNS trigger AS $body$
BEGIN
  IF NEW.type = 'flynn' AND NEW.manifest IS NULL THEN
    RAISE EXCEPTION 'artifacts of type flynn need a manifest' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $body$ LANGUAGE plpgsql;
CREATE TRIGGER check_artifact_manifest BEFORE INSERT OR UPDATE ON artifacts
  FOR EACH ROW EXECUTE FUNCTION check_artifact_manifest();
`

const routeRules = `
CREATE FUNCTION set_updated_at_column() RETURNS trigger AS $body$
BEGIN
  NEW.updated_at := now();
  RETURN NEW;
END $body$ LANGUAGE plpgsql;
CREATE TRIGGER set_updated_at_http_routes BEFORE UPDATE ON http_routes
  FOR EACH ROW EXECUTE FUNCTION set_updated_at_column();
CREATE TRIGGER set_updated_at_tcp_routes BEFORE UPDATE ON tcp_routes
  FOR EACH ROW EXECUTE FUNCTION set_updated_at_column();

CREATE FUNCTION check_http_route_update() RETURNS trigger AS $body$
DECLARE
  live_default boolean;
BEGIN
  IF NEW.path IS NULL OR NEW.path = '' THEN NEW.path := '/'; END IF;
  IF left(NEW.path, 1) <> '/' THEN RAISE EXCEPTION 'path must start with a slash'; END IF;
  IF right(NEW.path, 1) <> '/' THEN NEW.path := NEW.path || '/'; END IF;
  IF NEW.path <> '/' AND NEW.deleted_at IS NULL THEN
    SELECT EXISTS (SELECT 1 FROM http_routes
      WHERE domain = NEW.domain AND path = '/' AND deleted_at IS NULL AND id <> NEW.id) INTO live_default;
    IF NOT live_default THEN RAISE EXCEPTION 'the domain has no default route'; END IF;
  END IF;
  IF TG_OP = 'UPDATE' AND OLD.path = '/' AND OLD.deleted_at IS NULL
     AND (NEW.deleted_at IS NOT NULL OR NEW.path <> '/')
     AND EXISTS (SELECT 1 FROM http_routes WHERE domain = OLD.domain AND path <> '/' AND deleted_at IS NULL)
     AND NOT EXISTS (SELECT 1 FROM http_routes
       WHERE domain = OLD.domain AND path = '/' AND deleted_at IS NULL AND id <> OLD.id) THEN
    RAISE EXCEPTION 'Route has dependent routes';
  END IF;
  RETURN NEW;
END $body$ LANGUAGE plpgsql;
CREATE TRIGGER check_http_route_update BEFORE INSERT OR UPDATE ON http_routes
  FOR EACH ROW EXECUTE FUNCTION check_http_route_update();

CREATE FUNCTION check_http_route_drain_backends() RETURNS trigger AS $body$
BEGIN
  IF NEW.deleted_at IS NULL AND EXISTS (SELECT 1 FROM http_routes
      WHERE service = NEW.service AND deleted_at IS NULL AND drain_backends <> NEW.drain_backends
        AND id <> NEW.id) THEN
    RAISE EXCEPTION 'all routes of a service must agree on drain_backends';
  END IF;
  RETURN NEW;
END $body$ LANGUAGE plpgsql;
CREATE TRIGGER check_http_route_drain_backends BEFORE INSERT OR UPDATE ON http_routes
  FOR EACH ROW EXECUTE FUNCTION check_http_route_drain_backends();

CREATE FUNCTION set_tcp_route_port() RETURNS trigger AS $body$
BEGIN
  IF NEW.port = 0 THEN
    SELECT free INTO NEW.port FROM generate_series(${tcpPortMin}, ${tcpPortMax}) AS free
    WHERE NOT EXISTS (SELECT 1 FROM tcp_routes WHERE port = free AND deleted_at IS NULL) ORDER BY free LIMIT 1;
  END IF;
  RETURN NEW;
END $body$ LANGUAGE plpgsql;
CREATE TRIGGER set_tcp_route_port BEFORE INSERT ON tcp_routes
  FOR EACH ROW EXECUTE FUNCTION set_tcp_route_port();
`

const labels = `
CREATE FUNCTION jsonb_merge(first jsonb, second jsonb) RETURNS jsonb AS $body$
  SELECT coalesce(first, '{}'::jsonb) || coalesce(second, '{}'::jsonb)
$body$ LANGUAGE sql IMMUTABLE;

CREATE FUNCTION jsonb_array_to_text_array(list jsonb) RETURNS text[] AS $body$
  SELECT coalesce(array_agg(item), '{}') FROM jsonb_array_elements_text(list) AS item
$body$ LANGUAGE sql IMMUTABLE;

CREATE FUNCTION match_label_expression(expression jsonb, labels jsonb) RETURNS boolean AS $body$
  SELECT CASE coalesce((expression->>'op')::integer, 0)
    WHEN 0 THEN coalesce(labels->>(expression->>'key') = ANY (jsonb_array_to_text_array(expression->'values')), false)
    WHEN 1 THEN NOT coalesce(labels->>(expression->>'key') = ANY (jsonb_array_to_text_array(expression->'values')), false)
    WHEN 2 THEN jsonb_exists(labels, expression->>'key')
    WHEN 3 THEN NOT jsonb_exists(labels, expression->>'key')
    ELSE false END
$body$ LANGUAGE sql IMMUTABLE;

CREATE FUNCTION match_label_filter(filter jsonb, labels jsonb) RETURNS boolean AS $body$
  SELECT coalesce(bool_and(match_label_expression(expression, labels)), true)
  FROM jsonb_array_elements(filter->'expressions') AS expression
$body$ LANGUAGE sql IMMUTABLE;

CREATE FUNCTION match_label_filters(filters jsonb, labels jsonb) RETURNS boolean AS $body$
  SELECT jsonb_array_length(filters) = 0 OR coalesce(bool_or(match_label_filter(filter, labels)), false)
  FROM jsonb_array_elements(filters) AS filter
$body$ LANGUAGE sql IMMUTABLE;
`

/** Functions and triggers, for tables that exist. */
export function functionsSql(): string {
  return [events, releases, routeRules, labels].join('\n')
}
