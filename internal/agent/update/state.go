// Package update lets an agent renew its own program. The servers say which
// version is wanted; whether the agent takes it is decided by a public key in
// its own file, which signed the list of programs.
//
// The program that was installed stays as it is. A new one lies in a slot of
// its own below the data directory and is tried as a child of the old one: only
// when a server has acknowledged what the new one measured does it take over.
// What fails, crashes or hangs is given up, and the old one goes on. A small
// file says what is tried and what is in use; it is read first at each start.
package update

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"panoptes/internal/wire/uplink"
)

// state is the file. What it names is verified before it is run: who can change
// the file gains nothing.
type state struct {
	Active   string  `json:"active,omitempty"`   // version of the slot in use; empty: the program that was installed
	Previous string  `json:"previous,omitempty"` // the one before
	Starts   int     `json:"starts,omitempty"`   // of the active one since a server last acknowledged something
	Trial    *trial  `json:"trial,omitempty"`
	Failed   *failed `json:"failed,omitempty"`
}

type trial struct {
	Version  string `json:"version"`
	Rollout  string `json:"rollout,omitempty"`
	Attempts int    `json:"attempts"`
}

// failed is the last update that did not work.
type failed struct {
	Version string    `json:"version"`
	Rollout string    `json:"rollout,omitempty"`
	Error   string    `json:"error"`
	At      time.Time `json:"at"`
}

const (
	stateFile  = "state.json"
	markFile   = "confirmed" // written by a program on trial, read by the one that tries it
	program    = "panoptes-agent"
	maxState   = 16 << 10
	maxTries   = 2 // of one program
	maxStarts  = 5 // of a program that nobody acknowledges
	maxMessage = 500
)

// load reads the state. What is damaged is as good as none: the program that was
// installed runs.
func load(dir string) (state, error) {
	var s state
	f, err := os.Open(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read the state of updates: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, maxState))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return state{}, fmt.Errorf("read the state of updates: %w", err)
	}
	return s, nil
}

func (s state) save(dir string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode the state of updates: %w", err)
	}
	return writeFile(filepath.Join(dir, stateFile), b)
}

// writeFile replaces a file so that a power cut leaves the old or the new one.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

func clip(s string) string {
	if len(s) > maxMessage {
		return s[:maxMessage]
	}
	return s
}

func (f *failed) status() uplink.UpdateState {
	return uplink.UpdateState{State: uplink.UpdateFailed, Version: f.Version, Rollout: f.Rollout, Error: f.Error, At: f.At}
}
