package all

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/lockstep-go/lockstep/config"
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

// quoted makes a text a literal: the statements have no arguments, so that they pass through poolers.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func ident(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
