-- What consumers have received, once each: their names and the messages' ids compare bytewise.
CREATE TABLE IF NOT EXISTS {inbox} (
  consumer    text        COLLATE "C" NOT NULL,
  id          text        COLLATE "C" NOT NULL,
  received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (consumer, id)
);
-- What a purge looks for.
CREATE INDEX IF NOT EXISTS {inbox_received} ON {inbox} (received_at);
