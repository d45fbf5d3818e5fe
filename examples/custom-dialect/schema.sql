-- One table for what is pending and what is dead: a burial changes a word, and a retry changes it back, in its old place.
CREATE TABLE IF NOT EXISTS events (
  position    INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again, unlike a plain rowid
  state       TEXT NOT NULL DEFAULT 'pending',   -- pending, dead, dropped
  id          TEXT NOT NULL,
  topic       TEXT NOT NULL,
  key         TEXT NOT NULL,
  headers     TEXT NOT NULL,
  payload     BLOB NOT NULL,
  enqueued_at INTEGER NOT NULL DEFAULT (CAST(round(unixepoch('subsec') * 1000) AS INTEGER)), -- milliseconds, like every time
  attempts    INTEGER NOT NULL DEFAULT 0,
  retry_at    INTEGER NOT NULL DEFAULT 0,
  cause       TEXT NOT NULL DEFAULT '',
  buried_at   INTEGER NOT NULL DEFAULT 0,
  drop_reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS events_dead ON events (state, position) WHERE state <> 'pending';

CREATE TABLE IF NOT EXISTS delayed (
  number     INTEGER PRIMARY KEY AUTOINCREMENT,
  not_before INTEGER NOT NULL,
  id TEXT NOT NULL, topic TEXT NOT NULL, key TEXT NOT NULL, headers TEXT NOT NULL, payload BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS delayed_due ON delayed (not_before, number);

-- A key is blocked by each of its dead letters; an empty key and position 0 are a topic that an operator paused.
CREATE TABLE IF NOT EXISTS blocked (
  topic TEXT NOT NULL, key TEXT NOT NULL, position INTEGER NOT NULL,
  since INTEGER NOT NULL DEFAULT (CAST(round(unixepoch('subsec') * 1000) AS INTEGER)),
  PRIMARY KEY (topic, key, position)
) WITHOUT ROWID;

-- One row: the outbox's name, its generation, and the lease.
CREATE TABLE IF NOT EXISTS control (
  one              INTEGER PRIMARY KEY CHECK (one = 1),
  outbox           TEXT NOT NULL,
  generation       INTEGER NOT NULL DEFAULT 0,
  holder           TEXT NOT NULL DEFAULT '',
  epoch            INTEGER NOT NULL DEFAULT 0,
  renewals         INTEGER NOT NULL DEFAULT 0,
  expires_at       INTEGER NOT NULL DEFAULT 0,
  unclean          INTEGER NOT NULL DEFAULT 0,
  suspect_position INTEGER NOT NULL DEFAULT 0,
  suspect_id       TEXT NOT NULL DEFAULT ''
);
