CREATE TABLE IF NOT EXISTS {outbox} (
  position   INTEGER PRIMARY KEY AUTOINCREMENT,
  id         TEXT    NOT NULL DEFAULT (lower(hex(randomblob(16)))),
  topic      TEXT    NOT NULL CHECK (topic <> ''),
  key        TEXT    NOT NULL DEFAULT '',
  headers    TEXT    NOT NULL DEFAULT '{}' CHECK (json_type(headers) = 'object'),
  payload    BLOB    NOT NULL,
  created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
) STRICT;
