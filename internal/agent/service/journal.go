package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// maxJournal bounds what is remembered; it is never reached as long as the
// bounds of restarts hold.
const maxJournal = 10_000

// journal remembers which requests were done and what was restarted when, also
// after the agent was started anew: a request is done once.
type journal struct {
	path  string
	since time.Time // requests from before are not done, since it is not known which were
	v     struct {
		Seen  map[string]int64   `json:"seen"`  // nonces, until when they must be remembered (ms)
		Times map[string][]int64 `json:"times"` // restarts by service (ms)
	}
}

func openJournal(dir string, now time.Time) (*journal, error) {
	j := &journal{}
	if dir != "" {
		j.path = filepath.Join(dir, "actions.json")
		b, err := os.ReadFile(j.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("read what was restarted: %w", err)
		case json.Unmarshal(b, &j.v) != nil:
			j.since = now // damaged
		}
	}
	if j.v.Seen == nil {
		j.v.Seen = map[string]int64{}
	}
	if j.v.Times == nil {
		j.v.Times = map[string][]int64{}
	}
	return j, nil
}

func (j *journal) seen(nonce string, issued time.Time) bool {
	_, ok := j.v.Seen[nonce]
	return ok || issued.Before(j.since)
}

// recent counts the restarts of a service in the window. A clock that was set
// back does not make room.
func (j *journal) recent(service string, now time.Time) int {
	n := 0
	for _, t := range j.v.Times[service] {
		if now.Sub(time.UnixMilli(t)).Abs() < limitWindow {
			n++
		}
	}
	return n
}

// note remembers a restart, on disk before it returns.
func (j *journal) note(service string, now time.Time, nonce string, expires time.Time) error {
	keep := now.Add(-maxLife - time.Hour).UnixMilli() // a clock may be set back
	for k, until := range j.v.Seen {
		if until < keep {
			delete(j.v.Seen, k)
		}
	}
	for k, list := range j.v.Times {
		kept := list[:0]
		for _, t := range list {
			if now.Sub(time.UnixMilli(t)).Abs() < limitWindow {
				kept = append(kept, t)
			}
		}
		if j.v.Times[k] = kept; len(kept) == 0 {
			delete(j.v.Times, k)
		}
	}
	if len(j.v.Seen) >= maxJournal || len(j.v.Times) >= maxJournal {
		return errors.New("too many restarts are remembered; nothing is restarted until they are forgotten")
	}
	if nonce != "" {
		j.v.Seen[nonce] = expires.UnixMilli()
	}
	j.v.Times[service] = append(j.v.Times[service], now.UnixMilli())
	if j.path == "" {
		return nil
	}
	b, err := json.Marshal(&j.v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(j.path), "actions.json.*")
	if err != nil {
		return fmt.Errorf("remember a restart: %w; nothing is restarted that cannot be remembered", err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), j.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("remember a restart: %w; nothing is restarted that cannot be remembered", err), os.Remove(f.Name()))
	}
	return nil
}
