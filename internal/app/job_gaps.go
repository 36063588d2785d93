package app

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/schedule"
)

// jobGaps is which scrape jobs servers cannot do their share of: discovery has
// not answered there, or the job does not run. The others do it meanwhile. Each
// server tells of itself; one of which nothing is heard counts as able.
type jobGaps struct {
	self      string
	broadcast func([]byte)
	changed   func() // another server can do more or less than before

	mu   sync.Mutex // guards what follows
	told map[string]jobGap
	seq  uint64
	life string // of this process: what it said in its life before does not count

	view atomic.Pointer[map[string]able]
}

// jobGap is what a server says.
type jobGap struct {
	Node string   `json:"node"`
	Life string   `json:"life"`
	Seq  uint64   `json:"seq"`
	All  bool     `json:"all,omitempty"` // of jobs
	Jobs []string `json:"jobs,omitempty"`
}

// able is a gap as it is looked up.
type able struct {
	none bool
	not  map[string]bool
}

const (
	partJobGaps  = "scrape"
	maxGapJobs   = 2000 // beyond them a server that cannot do so many does none
	maxGapNodes  = 100
	maxGapText   = 256
	maxGapBytes  = 1 << 20
	gapsRepeated = 3 * time.Second
)

// newJobGaps makes one that says that this server can do nothing yet.
func newJobGaps(self string, broadcast func([]byte)) *jobGaps {
	g := &jobGaps{self: self, broadcast: broadcast, changed: func() {}, told: map[string]jobGap{}, life: model.NewID(time.Now())}
	g.told[self] = jobGap{Node: self, Life: g.life, All: true}
	g.look()
	return g
}

// lacking takes the jobs that this server cannot do its share of.
func (g *jobGaps) lacking(jobs []string) {
	g.mu.Lock()
	g.seq++
	gap := jobGap{Node: g.self, Life: g.life, Seq: g.seq, Jobs: slices.Clone(jobs)}
	if len(jobs) > maxGapJobs || slices.ContainsFunc(jobs, func(j string) bool { return len(j) > maxGapText }) {
		gap.All, gap.Jobs = true, nil
	}
	g.told[g.self] = gap
	g.look()
	g.mu.Unlock()
	g.tell()
}

// look needs mu.
func (g *jobGaps) look() {
	view := make(map[string]able, len(g.told))
	for id, gap := range g.told {
		a := able{none: gap.All, not: make(map[string]bool, len(gap.Jobs))}
		for _, j := range gap.Jobs {
			a.not[j] = true
		}
		view[id] = a
	}
	g.view.Store(&view)
}

// can reports whether a server can do its share of a job.
func (g *jobGaps) can(node, job string) bool {
	a, ok := (*g.view.Load())[node]
	return !ok || !a.none && !a.not[job]
}

// owner is who of the live servers that may run a job scrapes a target of it.
func (g *jobGaps) owner(key, job string, workers []schedule.Worker) (schedule.Worker, bool) {
	able := slices.DeleteFunc(slices.Clone(workers), func(w schedule.Worker) bool { return !g.can(w.ID, job) })
	if len(able) == 0 { // then each does what it knows
		able = workers
	} else if allDraining(able) { // nobody else can do it
		for i := range able {
			able[i].Weight = 0
		}
	}
	return schedule.Owner(key, able)
}

// state is what this server says of itself.
func (g *jobGaps) state() ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return json.Marshal(g.told[g.self])
}

func (g *jobGaps) tell() {
	if b, err := g.state(); err == nil { // it cannot fail
		g.broadcast(b)
	}
}

// merge takes what another server says.
func (g *jobGaps) merge(b []byte) error {
	if len(b) > maxGapBytes {
		return fmt.Errorf("what a server says of its scrape jobs has %d bytes", len(b))
	}
	var gap jobGap
	if err := json.Unmarshal(b, &gap); err != nil {
		return fmt.Errorf("read what a server says of its scrape jobs: %w", err)
	}
	if gap.Node == "" || len(gap.Node) > maxGapText || len(gap.Life) > maxGapText || len(gap.Jobs) > maxGapJobs {
		return fmt.Errorf("what a server says of its scrape jobs is out of bounds")
	}
	g.mu.Lock()
	held, ok := g.told[gap.Node]
	if gap.Node == g.self || ok && held.Life == gap.Life && held.Seq >= gap.Seq {
		g.mu.Unlock()
		return nil
	}
	if !ok && len(g.told) >= maxGapNodes { // servers that are long gone; those that live say it again
		own := g.told[g.self]
		clear(g.told)
		g.told[g.self] = own
	}
	g.told[gap.Node] = gap
	g.look()
	g.mu.Unlock()
	if held.All != gap.All || !slices.Equal(held.Jobs, gap.Jobs) {
		g.changed()
	}
	return nil
}

// Run says it again and again until ctx ends, for those that did not hear it.
func (g *jobGaps) Run(ctx context.Context) error {
	t := time.NewTicker(gapsRepeated)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			g.tell()
		}
	}
}
