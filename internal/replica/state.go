package replica

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Need is something that is to be copied, and how far that is.
type Need struct {
	From    int64  `json:"from"` // ms; 0: from the beginning
	To      int64  `json:"to"`   // ms, exclusive; 0: until now
	Reason  string `json:"reason"`
	Samples bool   `json:"samples,omitempty"`
	Events  bool   `json:"events,omitempty"`
	Block   string `json:"block,omitempty"` // damaged, to be taken out of use at the end
	Lost    string `json:"lost,omitempty"`  // what was damaged; it is fetched once

	Cursor     string   `json:"cursor,omitempty"`      // events up to here are copied
	EventsDone bool     `json:"events_done,omitempty"` // from one source
	Blocks     []string `json:"blocks,omitempty"`      // that were imported or found to be of no use
}

func (n Need) from() time.Time { return instant(n.From) }
func (n Need) to() time.Time   { return instant(n.To) }

func instant(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// all reports whether the need is for everything.
func (n Need) all() bool { return n.From == 0 && n.To == 0 }

// overlaps reports whether the need touches the range, whose 0s mean the same.
func (n Need) overlaps(from, to int64) bool {
	return (to == 0 || n.From < to) && (n.To == 0 || from < n.To)
}

// same reports whether two needs ask for the same, however far they are.
func (n Need) same(o Need) bool {
	return n.From == o.From && n.To == o.To && n.Samples == o.Samples && n.Events == o.Events && n.Block == o.Block && n.Lost == o.Lost
}

// state is what survives a restart.
type state struct {
	Needs []Need   `json:"needs"`
	Met   []string `json:"met"` // reasons of needs for everything, and damage, that need no second copy
}

const (
	stateName = "replica.json"
	maxNeeds  = 64
	maxMet    = 4096
)

func readState(dir string) (s state, err error) {
	path := filepath.Join(dir, stateName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read what is to be copied: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		// What was needed is not known any more: everything may be.
		s = state{Needs: []Need{{Samples: true, Events: true, Reason: "the state of copies was damaged"}}}
		return s, errors.Join(os.Rename(path, path+".damaged"), s.write(dir))
	}
	return s, nil
}

// write makes the state durable.
func (s *state) write(dir string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, stateName)
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// key names what is met once; empty: each time.
func (n Need) key() string {
	switch {
	case n.Lost != "":
		return "lost " + n.Lost
	case n.all():
		return "all " + n.Reason
	}
	return ""
}

// add notes a need unless it is there or was met.
func (s *state) add(n Need) bool {
	if k := n.key(); k != "" && slices.Contains(s.Met, k) || slices.ContainsFunc(s.Needs, n.same) {
		return false
	}
	if len(s.Needs) >= maxNeeds {
		// Rather too much than too little.
		for _, o := range s.Needs {
			if k := o.key(); k != "" {
				s.Met = append(s.Met, k)
			}
		}
		n = Need{Samples: true, Events: true, Reason: fmt.Sprintf("more than %d things are missing", maxNeeds)}
		s.Needs = nil
		s.Met = slices.DeleteFunc(s.Met, func(k string) bool { return k == n.key() })
	}
	s.Needs = append(s.Needs, n)
	return true
}

// met removes a need that was copied.
func (s *state) met(n Need) {
	s.Needs = slices.DeleteFunc(s.Needs, n.same)
	if k := n.key(); k != "" && !slices.Contains(s.Met, k) {
		s.Met = append(s.Met, k)
		s.Met = s.Met[max(0, len(s.Met)-maxMet):]
	}
}

// save replaces a need by how far it is now.
func (r *Replica) save(n Need) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.state.Needs, n.same)
	if i < 0 {
		return nil
	}
	r.state.Needs[i] = n
	if err := r.state.write(r.cfg.Dir); err != nil {
		return fmt.Errorf("note how far the copy is: %w", err)
	}
	return nil
}

// first returns what is to be copied next.
func (r *Replica) first() (Need, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.state.Needs) == 0 {
		return Need{}, false
	}
	n := r.state.Needs[0]
	n.Blocks = slices.Clone(n.Blocks)
	return n, true
}
