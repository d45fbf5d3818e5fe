package mysql

import (
	"errors"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/lockstep-go/lockstep/core"
)

// The servers' error numbers.
const (
	codeRecordChanged      = 1020
	codeDatabaseDenied     = 1044
	codeAccessDenied       = 1045
	codeNoDatabase         = 1046
	codeUnknownDatabase    = 1049
	codeTableDenied        = 1142
	codeColumnDenied       = 1143
	codeNoTable            = 1146
	codeLockWaitTimeout    = 1205
	codeDeadlock           = 1213
	codePrivilege          = 1227
	codeOptionPrevents     = 1290
	codeBinlogStatement    = 1665
	codeReadOnlyTx         = 1792
	codeReadOnlyMode       = 1836
	codeNoWait             = 3572
	codeUnknownColumn      = 1054
	codeAccessDeniedAnyway = 1698
	codeNoDefault          = 1364
)

// code is the server's number for err; 0 where it is no error of the server.
func code(err error) uint16 {
	var own *mysqldriver.MySQLError
	if errors.As(err, &own) {
		return own.Number
	}
	return 0
}

// cures says, for what an operator can do something about, what is wrong and what to do.
var cures = map[uint16]core.SetupError{
	codeNoTable: {
		Problem: "there is no outbox, or not all of it",
		Cure:    "run Migrate (`lockstep migrate`) first, with the same database and prefix",
	},
	codeUnknownColumn: {
		Problem: "a table of the outbox is not as Migrate made it",
		Cure:    "compare it with what Schema (`lockstep migrate --print`) prints",
	},
	codeUnknownDatabase: {
		Problem: "there is no such database",
		Cure:    "create it, or correct the DSN or Config.Database",
	},
	codeNoDatabase: {
		Problem: "the connection has no database",
		Cure:    "add /NAME to the DSN",
	},
	codeAccessDenied: {
		Problem: "the server refuses the user or its password",
		Cure:    "correct them in the DSN, or create the user",
	},
	codeAccessDeniedAnyway: {
		Problem: "the server refuses the user",
		Cure:    "give it a password, or correct the DSN",
	},
	codeDatabaseDenied: denied,
	codeTableDenied:    denied,
	codeColumnDenied:   denied,
	codePrivilege:      denied,
	codeOptionPrevents: readOnly,
	codeReadOnlyTx:     readOnly,
	codeReadOnlyMode:   readOnly,
	codeBinlogStatement: {
		Problem: "the server's binlog_format is STATEMENT, which does not go with READ COMMITTED",
		Cure:    "set binlog_format to ROW or MIXED",
	},
}

var (
	denied = core.SetupError{
		Problem: "the user lacks a privilege",
		Cure:    "grant what Grants (`lockstep migrate --print --application ROLE --relay ROLE`) prints, or for Migrate also CREATE and ALTER",
	}
	readOnly = core.SetupError{
		Problem: "the server is read-only: a replica, or a primary that was demoted",
		Cure:    "point the DSN at the server that takes writes",
	}
)

// explained puts a cure to an error that has one and does not say it yet.
func explained(err error) error {
	var already *core.SetupError
	if err == nil || errors.As(err, &already) {
		return err
	}
	cure, known := cures[code(err)]
	if !known {
		return err
	}
	cure.Problem += " (" + serverSays(err) + ")"
	cure.Err = err
	return &cure
}

// serverSays is the server's own sentence, which names the table or privilege and never a password.
func serverSays(err error) string {
	var own *mysqldriver.MySQLError
	if errors.As(err, &own) {
		return own.Message
	}
	return err.Error()
}
