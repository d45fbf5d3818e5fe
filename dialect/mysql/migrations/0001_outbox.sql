-- Everything that is text is UTF-8 and compares bytewise, with every byte: 'Key', 'key' and 'key ' are three keys. All
-- times are UTC. The outbox has no index but its primary key: writers wait for nobody.
CREATE TABLE IF NOT EXISTS {outbox} (
  position      BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
  id            VARCHAR(255) NOT NULL DEFAULT (UUID()),
  topic         VARCHAR(255) NOT NULL CHECK (topic <> ''),
  `key`         VARCHAR(255) NOT NULL DEFAULT '',
  headers       JSON         NOT NULL DEFAULT (JSON_OBJECT()) CHECK (JSON_VALID(headers) AND JSON_TYPE(headers) = 'OBJECT'),
  payload       LONGBLOB     NOT NULL,
  payload_bytes BIGINT       AS (OCTET_LENGTH(payload)) STORED,
  created_at    DATETIME(6)  NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  attempts      INT          NOT NULL DEFAULT 0,
  retry_at      DATETIME(6),
  last_error    TEXT
) {options};

-- Events that are not due. position is the order in which they were enqueued; they get one of the outbox when due.
CREATE TABLE IF NOT EXISTS {delayed} (
  position   BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
  id         VARCHAR(255) NOT NULL DEFAULT (UUID()),
  topic      VARCHAR(255) NOT NULL CHECK (topic <> ''),
  `key`      VARCHAR(255) NOT NULL DEFAULT '',
  headers    JSON         NOT NULL DEFAULT (JSON_OBJECT()) CHECK (JSON_VALID(headers) AND JSON_TYPE(headers) = 'OBJECT'),
  payload    LONGBLOB     NOT NULL,
  created_at DATETIME(6)  NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  not_before DATETIME(6)  NOT NULL,
  INDEX due (not_before, position)
) {options};

-- position is the one in the outbox, to which a retry returns the event. It is no key alone: after a restore positions
-- are used again.
CREATE TABLE IF NOT EXISTS {dead} (
  position    BIGINT       NOT NULL,
  id          VARCHAR(255) NOT NULL,
  topic       VARCHAR(255) NOT NULL,
  `key`       VARCHAR(255) NOT NULL,
  headers     LONGTEXT     NOT NULL,
  payload     LONGBLOB     NOT NULL,
  created_at  DATETIME(6)  NOT NULL,
  attempts    INT          NOT NULL,
  cause       TEXT         NOT NULL,
  buried_at   DATETIME(6)  NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  dropped_at  DATETIME(6),
  drop_reason VARCHAR(8192) NOT NULL DEFAULT '',
  PRIMARY KEY (position, id),
  INDEX dropped (dropped_at)
) {options};

-- Events that were delivered and are kept.
CREATE TABLE IF NOT EXISTS {archive} (
  position     BIGINT       NOT NULL,
  id           VARCHAR(255) NOT NULL,
  topic        VARCHAR(255) NOT NULL,
  `key`        VARCHAR(255) NOT NULL,
  headers      LONGTEXT     NOT NULL,
  payload      LONGBLOB     NOT NULL,
  created_at   DATETIME(6)  NOT NULL,
  attempts     INT          NOT NULL,
  delivered_at DATETIME(6)  NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  PRIMARY KEY (position, id),
  INDEX delivered (delivered_at)
) {options};

-- A row per dead letter that blocks its key: the key is blocked while it has one. A row without a key is a topic that an
-- operator paused.
CREATE TABLE IF NOT EXISTS {blocked} (
  topic    VARCHAR(255) NOT NULL,
  `key`    VARCHAR(255) NOT NULL,
  position BIGINT       NOT NULL,
  since    DATETIME(6)  NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  PRIMARY KEY (topic, `key`, position)
) {options};

CREATE TABLE IF NOT EXISTS {lease} (
  one              INT          NOT NULL DEFAULT 1 PRIMARY KEY CHECK (one = 1),
  holder           VARCHAR(255) NOT NULL DEFAULT '',
  epoch            BIGINT       NOT NULL DEFAULT 0,
  renewals         BIGINT       NOT NULL DEFAULT 0,
  expires_at       DATETIME(6)  NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  unclean          INT          NOT NULL DEFAULT 0,
  suspect_position BIGINT       NOT NULL DEFAULT 0,
  suspect_id       VARCHAR(255) NOT NULL DEFAULT ''
) {options};

-- What the key lock locks: the bucket of a key is CRC32(CONCAT(topic, CHAR(0), key)) % 4096.
CREATE TABLE IF NOT EXISTS {key_lock} (
  bucket INT NOT NULL PRIMARY KEY
) {options};

CREATE TABLE IF NOT EXISTS {control} (
  one            INT          NOT NULL DEFAULT 1 PRIMARY KEY CHECK (one = 1),
  outbox         VARCHAR(255) NOT NULL DEFAULT (UUID()),
  schema_version INT          NOT NULL,
  generation     BIGINT       NOT NULL DEFAULT 0
) {options};

INSERT INTO {lease} (one) VALUES (1) ON DUPLICATE KEY UPDATE one = 1;

INSERT INTO {key_lock} (bucket)
WITH RECURSIVE buckets (bucket) AS (SELECT 0 UNION ALL SELECT bucket + 1 FROM buckets WHERE bucket < 63)
SELECT a.bucket * 64 + b.bucket FROM buckets AS a, buckets AS b
ON DUPLICATE KEY UPDATE bucket = {key_lock}.bucket;

INSERT INTO {control} (one, schema_version) VALUES (1, 1) ON DUPLICATE KEY UPDATE one = 1;
