-- What consumers have received, once each: their names and the messages' ids compare bytewise, with every space.
CREATE TABLE IF NOT EXISTS {inbox} (
  consumer    VARCHAR(255) NOT NULL,
  id          VARCHAR(255) NOT NULL,
  received_at DATETIME(6)  NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  PRIMARY KEY (consumer, id),
  INDEX received (received_at)
) {options};
