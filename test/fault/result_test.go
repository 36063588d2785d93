//go:build fault && linux

package fault

import (
	"fmt"
	"os"
	"sync"
	"text/tabwriter"
	"time"
)

// result is what one row found.
type result struct {
	row                                  string
	passed                               bool
	seed                                 int64
	samples, records                     int // acknowledged
	lostSamples, lostRecords, lostEvents int
	sampleGap, recordGap, checkGap       time.Duration
	sent, repeated                       int
	recovery                             time.Duration
}

func (r result) line() string {
	return fmt.Sprintf("%s: of %d samples lost %d, of %d changes lost %d, their events lost %d; longest waits: samples %.1f s, changes %.1f s, checks %.1f s; notifications %d, repeated %d; all equal %.1f s after the fault",
		r.row, r.samples, r.lostSamples, r.records, r.lostRecords, r.lostEvents, r.sampleGap.Seconds(), r.recordGap.Seconds(), r.checkGap.Seconds(), r.sent, r.repeated, r.recovery.Seconds())
}

// table collects the results of all rows of this run.
type table struct {
	mu   sync.Mutex
	rows []result
}

var results table

func (t *table) add(r result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, r)
}

func (t *table) print() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rows) == 0 {
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "row\tpassed\tseed\tsamples\tlost\tchanges\tlost\tevents lost\tsample gap\tchange gap\tcheck gap\tnotified\trepeated\tequal after")
	for _, r := range t.rows {
		fmt.Fprintf(w, "%s\t%v\t%d\t%d\t%d\t%d\t%d\t%d\t%.1fs\t%.1fs\t%.1fs\t%d\t%d\t%.1fs\n", r.row, r.passed, r.seed, r.samples, r.lostSamples, r.records, r.lostRecords, r.lostEvents,
			r.sampleGap.Seconds(), r.recordGap.Seconds(), r.checkGap.Seconds(), r.sent, r.repeated, r.recovery.Seconds())
	}
	w.Flush()
}
