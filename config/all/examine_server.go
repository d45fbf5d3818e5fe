package all

import (
	"context"
	"database/sql"
	"time"

	"github.com/lockstep-go/lockstep/config"
)

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

// clock compares the database's clock, which query returns in seconds since 1970, with ours.
func (e *examination) clock(query string) {
	var theirs float64
	before := now()
	if !e.ask(query, &theirs) {
		return
	}
	took := now().Sub(before)
	skew := time.Duration(theirs*float64(time.Second)) - time.Duration(before.Add(took/2).UnixNano())
	if skew.Abs() > maxSkew+took {
		e.warn("run NTP on both", "the database's clock and this machine's are %v apart: latencies and log times mislead", skew.Abs().Round(time.Millisecond))
	}
}
