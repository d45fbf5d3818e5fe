package all

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/config"
)

// maxSkew is how far apart the clocks of database and relay may be before times that are reckoned over both mislead.
const maxSkew = 2 * time.Second

// examination gathers findings over one connection.
type examination struct {
	ctx      context.Context //nolint:containedctx // it lives as long as the call
	conn     *sql.Conn
	findings []config.Finding
	faults   []error
}

// examine runs look over a pool that is closed again.
func examine(ctx context.Context, open func() (*sql.DB, error), look func(e *examination)) ([]config.Finding, error) {
	db, err := open()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	e := &examination{ctx: ctx, conn: conn}
	look(e)
	return e.findings, joined(e.faults)
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
	if err != nil && err != sql.ErrNoRows { //nolint:errorlint // database/sql returns it as it is
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

// clock compares the database's clock, which query returns in seconds since 1970, with ours.
func (e *examination) clock(query string) {
	var theirs float64
	before := time.Now()
	if !e.ask(query, &theirs) {
		return
	}
	took := time.Since(before)
	skew := time.Duration(theirs*float64(time.Second)) - time.Duration(before.Add(took/2).UnixNano())
	if skew.Abs() > maxSkew+took {
		e.warn("run NTP on both", "the database's clock and this machine's are %v apart: latencies and log times mislead", skew.Abs().Round(time.Millisecond))
	}
}
