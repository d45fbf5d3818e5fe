package mysql

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
)

// server is what a server says of itself, by variable.
type server map[string]string

// A variable that a server does not know is not in the answer.
const askServer = `SHOW VARIABLES WHERE Variable_name IN ('version', 'max_allowed_packet', 'auto_increment_increment', 'log_bin',
  'binlog_format', 'read_only', 'super_read_only', 'wsrep_on')`

func (v server) add(rows *sqlx.Rows) error {
	var name, value string
	err := rows.Scan(&name, &value)
	v[strings.ToLower(name)] = value
	return err
}

func (v server) on(name string) bool { return v[name] == "ON" || v[name] == "1" }

func (v server) isMariaDB() bool { return strings.Contains(v["version"], "MariaDB") }

// name is the expression of the server's name for itself.
func (v server) name() string {
	if v.isMariaDB() {
		return `@@hostname, @@port, @@server_id`
	}
	return `@@server_uuid`
}

// The collation that compares bytewise and with every space came with this MySQL; the JSON functions and locks without
// waiting with this MariaDB.
var oldest = map[bool][3]int{false: {8, 0, 17}, true: {10, 6, 0}}

// faults reports all that keeps the server from holding an outbox.
func (v server) faults() error {
	return errors.Join(v.versionFault(), v.incrementFault(), v.readOnlyFault(), v.binlogFault(), v.galeraFault())
}

func (v server) versionFault() error {
	var have [3]int
	text := strings.TrimPrefix(v["version"], "5.5.5-") // what some MariaDB servers say to old replicas
	if _, err := fmt.Sscanf(text, "%d.%d.%d", &have[0], &have[1], &have[2]); err != nil {
		return &core.SetupError{
			Problem: fmt.Sprintf("the server's version %q is not a number", v["version"]),
			Cure:    "use MySQL 8.0.17 or newer, or MariaDB 10.6 or newer",
			Err:     err,
		}
	}
	want := oldest[v.isMariaDB()]
	for i := range want {
		if have[i] != want[i] {
			if have[i] > want[i] {
				return nil
			}
			return &core.SetupError{
				Problem: fmt.Sprintf("the server is %s, which is too old", v["version"]),
				Cure:    "upgrade to MySQL 8.0.17 or newer, or MariaDB 10.6 or newer",
			}
		}
	}
	return nil
}

func (v server) incrementFault() error {
	step := v["auto_increment_increment"]
	if step == "" || step == "1" {
		return nil
	}
	// Each position between two events would be a gap that has to be looked at.
	return &core.SetupError{
		Problem: "the server hands out positions in steps (auto_increment_increment is " + step + ")",
		Cure:    "set auto_increment_increment to 1; a group of servers that all write cannot hold an outbox",
	}
}

func (v server) readOnlyFault() error {
	// MariaDB has more than one way to be read-only: OFF is the one that is not.
	mode := v["read_only"]
	if !v.on("super_read_only") && (mode == "" || mode == "OFF" || mode == "0") {
		return nil
	}
	fault := readOnly
	return &fault
}

func (v server) binlogFault() error {
	if !v.on("log_bin") || v["binlog_format"] != "STATEMENT" {
		return nil
	}
	fault := cures[codeBinlogStatement]
	return &fault
}

func (v server) galeraFault() error {
	if !v.on("wsrep_on") {
		return nil
	}
	return &core.SetupError{
		Problem: "the server is part of a Galera cluster",
		Cure:    "keep the outbox in a database with one writing server",
	}
}
