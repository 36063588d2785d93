package auth

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// SessionStore keeps sessions, and which were ended before their time, over a
// restart. Put, End and Delete return after the change is safe.
type SessionStore interface {
	Load() (live []Session, ended map[string]time.Time, err error)
	// Put notes sessions; one whose hash is known is replaced.
	Put(...Session) error
	// End notes when sessions were ended, by hash, and forgets them otherwise.
	End(map[string]time.Time) error
	// Delete forgets all about these hashes.
	Delete(hashes ...string) error
	Close() error
}

// FileStore keeps sessions in one file: a line of JSON for each change, those of
// one call fsynced together. The file is rewritten when most of its lines are out
// of date.
type FileStore struct {
	path string

	mu    sync.Mutex
	f     *os.File             // guarded by mu; nil until the first write
	live  map[string]Session   // guarded by mu
	ended map[string]time.Time // guarded by mu; by hash
	lines int                  // guarded by mu
}

// NewFileStore returns a store in the file at path; Load reads it.
func NewFileStore(path string) *FileStore {
	return &FileStore{path: path, live: map[string]Session{}, ended: map[string]time.Time{}}
}

// sessionLine is one change. An end is a Delete with a time: what was written
// before ends were kept, and programs of that time, know Delete alone.
type sessionLine struct {
	Put    *Session   `json:"put,omitempty"`
	Delete string     `json:"delete,omitempty"`
	Ended  *time.Time `json:"ended,omitempty"`
}

// takeLocked makes the change of a line.
func (s *FileStore) takeLocked(l sessionLine) {
	switch {
	case l.Put != nil && l.Put.Hash != "":
		s.live[l.Put.Hash] = *l.Put
	case l.Delete != "":
		delete(s.live, l.Delete)
		delete(s.ended, l.Delete)
		if l.Ended != nil {
			s.ended[l.Delete] = *l.Ended
		}
	}
}

// Load reads the file. A last line that was cut off by a crash is dropped, as
// is any that cannot be read: its session has to log in again.
func (s *FileStore) Load() ([]Session, map[string]time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, err := os.ReadFile(s.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	clear(s.live)
	clear(s.ended)
	s.lines = 0
	sc := bufio.NewScanner(bytes.NewReader(data))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var l sessionLine
		if json.Unmarshal(sc.Bytes(), &l) == nil {
			s.takeLocked(l)
		}
	}
	// Always begun anew, so that an append never follows a torn line.
	if len(data) > 0 {
		if err := s.rewriteLocked(); err != nil {
			return nil, nil, err
		}
	}
	return slices.Collect(maps.Values(s.live)), maps.Clone(s.ended), nil
}

// Put notes sessions.
func (s *FileStore) Put(list ...Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := map[string]Session{}
	lines := make([]sessionLine, 0, len(list))
	for i, v := range list {
		if old, ok := s.live[v.Hash]; ok {
			had[v.Hash] = old
		}
		lines = append(lines, sessionLine{Put: &list[i]})
	}
	err := s.changeLocked(lines)
	if err != nil { // not begun, so nothing later may write it
		for _, v := range list {
			delete(s.live, v.Hash)
		}
		maps.Copy(s.live, had)
	}
	return err
}

// End notes when sessions were ended.
func (s *FileStore) End(ended map[string]time.Time) error {
	lines := make([]sessionLine, 0, len(ended))
	for hash, at := range ended {
		lines = append(lines, sessionLine{Delete: hash, Ended: &at})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changeLocked(lines)
}

// Delete forgets all about sessions.
func (s *FileStore) Delete(hashes ...string) error {
	var lines []sessionLine
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, hash := range hashes {
		_, live := s.live[hash]
		if _, over := s.ended[hash]; live || over {
			lines = append(lines, sessionLine{Delete: hash})
		}
	}
	return s.changeLocked(lines)
}

// changeLocked makes changes and writes them down.
func (s *FileStore) changeLocked(lines []sessionLine) error {
	if len(lines) == 0 {
		return nil
	}
	for _, l := range lines {
		s.takeLocked(l)
	}
	return s.appendLocked(lines)
}

// Close closes the file.
func (s *FileStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closeLocked()
}

func (s *FileStore) closeLocked() error {
	if s.f == nil {
		return nil
	}
	f := s.f
	s.f = nil
	return f.Close()
}

func (s *FileStore) appendLocked(lines []sessionLine) error {
	if s.lines+len(lines) > 2*(len(s.live)+len(s.ended))+100 {
		return s.rewriteLocked() // holds the changes already
	}
	if s.f == nil {
		f, err := os.OpenFile(s.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		s.f = f
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	for _, l := range lines {
		if err := enc.Encode(l); err != nil {
			return err
		}
	}
	if _, err := s.f.Write(buf.Bytes()); err != nil {
		// Half a line may stand there now: begin the file anew next time.
		s.lines = 1 << 30
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	s.lines += len(lines)
	return s.f.Sync()
}

// rewriteLocked writes the living sessions and the ended ones to a new file and puts it in place.
func (s *FileStore) rewriteLocked() error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	for _, v := range s.live {
		if err := enc.Encode(sessionLine{Put: &v}); err != nil {
			return err
		}
	}
	for hash, at := range s.ended {
		if err := enc.Encode(sessionLine{Delete: hash, Ended: &at}); err != nil {
			return err
		}
	}
	if err := s.closeLocked(); err != nil {
		return err
	}
	if err := writeFile(s.path, buf.Bytes()); err != nil {
		return err
	}
	s.lines = len(s.live) + len(s.ended)
	return nil
}

// writeFile replaces a file so that after a crash it holds the old or the new
// content, readable by its owner only.
func writeFile(path string, data []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", tmp, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
