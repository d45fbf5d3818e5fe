-- What consumers have received, once each.
CREATE TABLE IF NOT EXISTS {inbox} (
  consumer    TEXT    NOT NULL,
  id          TEXT    NOT NULL,
  received_at INTEGER NOT NULL DEFAULT ({now}),
  PRIMARY KEY (consumer, id)
) STRICT, WITHOUT ROWID;
-- What a purge looks for.
CREATE INDEX IF NOT EXISTS {inbox_received} ON {inbox} (received_at);
