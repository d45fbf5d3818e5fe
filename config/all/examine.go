package all

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/config"
)

// What is too much. Tests, which cannot wait so long or fill so much, set less.
var (
	// maxSkew is how far apart the clocks of database and relay may be before times that are reckoned over both mislead.
	maxSkew = 2 * time.Second
	// maxOpen is how long a transaction may be open.
	maxOpen = 10 * time.Minute
	// maxDeadRows is how many rows vacuum may leave for later.
	maxDeadRows int64 = 1_000_000
	// maxWAL is the size of a WAL that somebody keeps from starting again, in bytes.
	maxWAL int64 = 256 << 20
	// now is this machine's clock.
	now = time.Now
)

// examination gathers findings over one connection.
type examination struct {
	ctx      context.Context //nolint:containedctx // it lives as long as the call
	conn     *sql.Conn
	findings []config.Finding
	faults   []error
}

func joined(faults []error) error {
	if len(faults) == 0 {
		return nil
	}
	var texts []string
	for _, err := range faults {
		texts = append(texts, err.Error())
	}
	return fmt.Errorf("some was not found out: %s", strings.Join(texts, "; "))
}

// ask scans the one row of a query without arguments, and reports whether there is one.
func (e *examination) ask(query string, into ...any) bool {
	err := e.conn.QueryRowContext(e.ctx, query).Scan(into...)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		e.faults = append(e.faults, err)
	}
	return err == nil
}

func (e *examination) problem(cure, format string, args ...any) {
	e.findings = append(e.findings, config.Finding{Problem: fmt.Sprintf(format, args...), Cure: cure})
}

func (e *examination) warn(cure, format string, args ...any) {
	e.findings = append(e.findings, config.Finding{Warning: true, Problem: fmt.Sprintf(format, args...), Cure: cure})
}

// unknown notes what the role may not see.
func (e *examination) unknown(format string, args ...any) {
	e.faults = append(e.faults, fmt.Errorf(format, args...))
}

// quoted makes a text a literal: the statements have no arguments, so that they pass through poolers.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func ident(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
