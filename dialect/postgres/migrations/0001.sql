-- GENERATED ALWAYS: a writer that fetched a position beforehand, with nextval, would hold it without a lock on the
-- table, which is what tells a gap that may still be filled from one that is dead.
CREATE TABLE {outbox} (
  position   bigint      GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
  id         text        COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text,
  topic      text        COLLATE "C" NOT NULL CHECK (topic <> ''),
  key        text        COLLATE "C" NOT NULL DEFAULT '',
  headers    jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(headers) = 'object'),
  payload    bytea       NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp() CHECK (isfinite(created_at)),
  attempts   integer     NOT NULL DEFAULT 0,
  retry_at   timestamptz CHECK (isfinite(retry_at)),
  last_error text        COLLATE "C"
) WITH (
  -- Vacuum after so many dead rows, however large the table once was; and never cut pages off its end, which takes a
  -- lock that blocks the writers.
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000, vacuum_truncate = off,
  toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 10000, toast.vacuum_truncate = off
);

-- Events that are not due. position is the order in which they were enqueued; they get one of the outbox when due.
CREATE TABLE {delayed} (
  position   bigint      GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
  id         text        COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text,
  topic      text        COLLATE "C" NOT NULL CHECK (topic <> ''),
  key        text        COLLATE "C" NOT NULL DEFAULT '',
  headers    jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(headers) = 'object'),
  payload    bytea       NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp() CHECK (isfinite(created_at)),
  not_before timestamptz NOT NULL CHECK (isfinite(not_before))
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, vacuum_truncate = off);
CREATE INDEX {delayed_due} ON {delayed} (not_before, position);

-- position is the one in the outbox, to which a retry returns the event. It is no key alone: after a restore positions
-- are used again.
CREATE TABLE {dead} (
  position    bigint      NOT NULL,
  id          text        COLLATE "C" NOT NULL,
  topic       text        COLLATE "C" NOT NULL,
  key         text        COLLATE "C" NOT NULL,
  headers     jsonb       NOT NULL,
  payload     bytea       NOT NULL,
  created_at  timestamptz NOT NULL,
  attempts    integer     NOT NULL,
  cause       text        COLLATE "C" NOT NULL,
  buried_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  dropped_at  timestamptz,
  drop_reason text        COLLATE "C" NOT NULL DEFAULT '',
  PRIMARY KEY (position, id)
);
-- What waits for an operator is found and counted whatever was dropped, and what was dropped is purged by age.
CREATE INDEX {dead_waiting} ON {dead} (position, id) WHERE dropped_at IS NULL;
CREATE INDEX {dead_dropped} ON {dead} (dropped_at, position, id) WHERE dropped_at IS NOT NULL;

-- Delivered events of the topics that are kept.
CREATE TABLE {archive} (
  position     bigint      NOT NULL,
  id           text        COLLATE "C" NOT NULL,
  topic        text        COLLATE "C" NOT NULL,
  key          text        COLLATE "C" NOT NULL,
  headers      jsonb       NOT NULL,
  payload      bytea       NOT NULL,
  created_at   timestamptz NOT NULL,
  attempts     integer     NOT NULL,
  delivered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (position, id)
);
CREATE INDEX {archive_id} ON {archive} (id);
CREATE INDEX {archive_delivered} ON {archive} (delivered_at, position, id);

-- A row per dead letter that blocks its key: the key is blocked while it has one. A row with an empty key and position 0
-- pauses the whole topic.
CREATE TABLE {blocked} (
  topic    text        COLLATE "C" NOT NULL,
  key      text        COLLATE "C" NOT NULL,
  position bigint      NOT NULL,
  since    timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (topic, key, position)
);

-- One row each. Half of every page is left free, so that an update stays in its page and touches no index.
CREATE TABLE {control} (
  one            integer PRIMARY KEY DEFAULT 1 CHECK (one = 1),
  outbox         text    COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text,
  schema_version integer NOT NULL,
  generation     bigint  NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE TABLE {lease} (
  one        integer     PRIMARY KEY DEFAULT 1 CHECK (one = 1),
  holder     text        COLLATE "C" NOT NULL DEFAULT '',
  epoch      bigint      NOT NULL DEFAULT 0,
  renewals   bigint      NOT NULL DEFAULT 0,
  expires_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  unclean    integer     NOT NULL DEFAULT 0,
  suspect_position bigint NOT NULL DEFAULT 0,
  suspect_id text        COLLATE "C" NOT NULL DEFAULT ''
) WITH (fillfactor = 50);
INSERT INTO {control} (schema_version) VALUES (1);
INSERT INTO {lease} DEFAULT VALUES;
