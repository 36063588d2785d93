package relay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// state is what outlives the process beside the segments.
type state struct {
	LogID        string            `json:"log"`
	Next         uint64            `json:"next"`   // number of the next segment, at least
	Newest       tail              `json:"newest"` // of the segment that was written last: what was on the disk
	Destinations map[string]cursor `json:"destinations"`
	Lost         bool              `json:"lost,omitempty"` // the cursors were, and the destinations have not been named since
}

// cursor says what a destination has.
type cursor struct {
	Pos    position `json:"pos"`
	Missed *missed  `json:"missed,omitempty"` // not told to the destination yet
}

// missed is a span of time of which samples and events were dropped,
// milliseconds since 1970.
type missed struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

func (m *missed) with(from, to int64) *missed {
	if m == nil {
		return &missed{from, to}
	}
	return &missed{min(m.From, from), max(m.To, to)}
}

const stateName = "state.json"

func loadState(dir string) (state, error) {
	var s state
	b, err := os.ReadFile(filepath.Join(dir, stateName))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read cursors of the relay: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil || s.LogID != "" && len(s.LogID) != 26 {
		return state{}, errDamaged
	}
	return s, nil
}

// save writes the state so that either the old or the new one is found.
func (s state) save(dir string, sync func(*os.File) error) error {
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
	if err == nil {
		err = sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(dir)
}
