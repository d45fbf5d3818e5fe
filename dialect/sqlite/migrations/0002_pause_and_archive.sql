-- A paused topic is a row without a key, at position 0.
CREATE TABLE {blocked_new} (
  topic    TEXT    NOT NULL,
  key      TEXT    NOT NULL CHECK ((key = '') = (position = 0)),
  position INTEGER NOT NULL,
  since    INTEGER NOT NULL DEFAULT ({now}),
  PRIMARY KEY (topic, key, position)
) STRICT, WITHOUT ROWID;
INSERT INTO {blocked_new} SELECT topic, key, position, since FROM {blocked};
DROP TABLE {blocked};
ALTER TABLE {blocked_new} RENAME TO {blocked};

-- Delivered events of the topics that are kept.
CREATE TABLE {archive} (
  position     INTEGER NOT NULL,
  id           TEXT    NOT NULL,
  topic        TEXT    NOT NULL,
  key          TEXT    NOT NULL,
  headers      TEXT    NOT NULL,
  payload      BLOB    NOT NULL,
  created_at   INTEGER NOT NULL,
  attempts     INTEGER NOT NULL,
  delivered_at INTEGER NOT NULL DEFAULT ({now}),
  PRIMARY KEY (position, id)
) STRICT;

-- What a purge looks for.
CREATE INDEX {archive_delivered} ON {archive} (delivered_at);
CREATE INDEX {dead_dropped} ON {dead} (dropped_at) WHERE dropped_at IS NOT NULL;

UPDATE {control} SET schema_version = 2;
