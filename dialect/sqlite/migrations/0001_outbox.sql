CREATE TABLE {outbox} (
  position   INTEGER PRIMARY KEY AUTOINCREMENT,
  id         TEXT    NOT NULL DEFAULT (lower(hex(randomblob(16)))),
  topic      TEXT    NOT NULL CHECK (topic <> ''),
  key        TEXT    NOT NULL DEFAULT '',
  headers    TEXT    NOT NULL DEFAULT '{}' CHECK (json_valid(headers) AND json_type(headers) = 'object'),
  payload    BLOB    NOT NULL,
  created_at INTEGER NOT NULL DEFAULT ({now}),
  attempts   INTEGER NOT NULL DEFAULT 0,
  retry_at   INTEGER,
  last_error TEXT
) STRICT;

-- Events that are not due. position is the order in which they were enqueued; they get one of the outbox when due.
CREATE TABLE {delayed} (
  position   INTEGER PRIMARY KEY AUTOINCREMENT,
  id         TEXT    NOT NULL DEFAULT (lower(hex(randomblob(16)))),
  topic      TEXT    NOT NULL CHECK (topic <> ''),
  key        TEXT    NOT NULL DEFAULT '',
  headers    TEXT    NOT NULL DEFAULT '{}' CHECK (json_valid(headers) AND json_type(headers) = 'object'),
  payload    BLOB    NOT NULL,
  created_at INTEGER NOT NULL DEFAULT ({now}),
  not_before INTEGER NOT NULL
) STRICT;
CREATE INDEX {delayed_due} ON {delayed} (not_before, position);

-- position is the one in the outbox, to which a retry returns the event. It is no key alone: after a restore positions
-- are used again.
CREATE TABLE {dead} (
  position    INTEGER NOT NULL,
  id          TEXT    NOT NULL,
  topic       TEXT    NOT NULL,
  key         TEXT    NOT NULL,
  headers     TEXT    NOT NULL,
  payload     BLOB    NOT NULL,
  created_at  INTEGER NOT NULL,
  attempts    INTEGER NOT NULL,
  cause       TEXT    NOT NULL,
  buried_at   INTEGER NOT NULL DEFAULT ({now}),
  dropped_at  INTEGER,
  drop_reason TEXT    NOT NULL DEFAULT '',
  PRIMARY KEY (position, id)
) STRICT;

-- A row per dead letter that blocks its key: the key is blocked while it has one.
CREATE TABLE {blocked} (
  topic    TEXT    NOT NULL,
  key      TEXT    NOT NULL CHECK (key <> ''),
  position INTEGER NOT NULL,
  since    INTEGER NOT NULL DEFAULT ({now}),
  PRIMARY KEY (topic, key, position)
) STRICT, WITHOUT ROWID;

-- One row each.
CREATE TABLE {control} (
  one            INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
  outbox         TEXT    NOT NULL,
  schema_version INTEGER NOT NULL,
  generation     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE {lease} (
  one        INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
  holder     TEXT    NOT NULL DEFAULT '',
  epoch      INTEGER NOT NULL DEFAULT 0,
  renewals   INTEGER NOT NULL DEFAULT 0,
  expires_at INTEGER NOT NULL DEFAULT 0,
  unclean    INTEGER NOT NULL DEFAULT 0,
  suspect_position INTEGER NOT NULL DEFAULT 0,
  suspect_id TEXT    NOT NULL DEFAULT ''
) STRICT;

-- The UUID names the outbox for good; it is random, of version 4.
INSERT INTO {control} (outbox, schema_version) VALUES (lower(
  hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-' ||
  substr('89ab', 1 + abs(random() % 4), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))), 1);
INSERT INTO {lease} DEFAULT VALUES;
