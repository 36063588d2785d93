package auth

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// SessionStore keeps sessions over a restart. Put and Delete return after the
// change is safe. Put of a hash that is known replaces it.
type SessionStore interface {
	Load() ([]Session, error)
	Put(Session) error
	Delete(hash string) error
	Close() error
}

// FileStore keeps sessions in one file: a line of JSON for each change, each
// fsynced. The file is rewritten when most of its lines are out of date.
type FileStore struct {
	path string

	mu    sync.Mutex
	f     *os.File           // guarded by mu; nil until the first write
	live  map[string]Session // guarded by mu
	lines int                // guarded by mu
}

// NewFileStore returns a store in the file at path; Load reads it.
func NewFileStore(path string) *FileStore {
	return &FileStore{path: path, live: map[string]Session{}}
}

type sessionLine struct {
	Put    *Session `json:"put,omitempty"`
	Delete string   `json:"delete,omitempty"`
}

// Load reads the file. A last line that was cut off by a crash is dropped, as
// is any that cannot be read: its session has to log in again.
func (s *FileStore) Load() ([]Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, err := os.ReadFile(s.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	clear(s.live)
	s.lines = 0
	sc := bufio.NewScanner(bytes.NewReader(data))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var l sessionLine
		if json.Unmarshal(sc.Bytes(), &l) != nil {
			continue
		}
		switch {
		case l.Put != nil && l.Put.Hash != "":
			s.live[l.Put.Hash] = *l.Put
		case l.Delete != "":
			delete(s.live, l.Delete)
		}
	}
	// Always begun anew, so that an append never follows a torn line.
	if len(data) > 0 {
		if err := s.rewriteLocked(); err != nil {
			return nil, err
		}
	}
	list := make([]Session, 0, len(s.live))
	for _, v := range s.live {
		list = append(list, v)
	}
	return list, nil
}

// Put notes a session.
func (s *FileStore) Put(v Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, had := s.live[v.Hash]
	s.live[v.Hash] = v
	if err := s.appendLocked(sessionLine{Put: &v}); err != nil {
		if had {
			s.live[v.Hash] = old
		} else {
			delete(s.live, v.Hash)
		}
		return err
	}
	return nil
}

// Delete notes that a session has ended.
func (s *FileStore) Delete(hash string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.live[hash]; !ok {
		return nil
	}
	delete(s.live, hash)
	return s.appendLocked(sessionLine{Delete: hash})
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

func (s *FileStore) appendLocked(l sessionLine) error {
	if s.lines > 2*len(s.live)+100 {
		return s.rewriteLocked() // holds the change already
	}
	if s.f == nil {
		f, err := os.OpenFile(s.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		s.f = f
	}
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if _, err := s.f.Write(append(b, '\n')); err != nil {
		// Half a line may stand there now: begin the file anew next time.
		s.lines = 1 << 30
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	s.lines++
	return s.f.Sync()
}

// rewriteLocked writes the living sessions to a new file and puts it in place.
func (s *FileStore) rewriteLocked() error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	for _, v := range s.live {
		if err := enc.Encode(sessionLine{Put: &v}); err != nil {
			return err
		}
	}
	if err := s.closeLocked(); err != nil {
		return err
	}
	if err := writeFile(s.path, buf.Bytes()); err != nil {
		return err
	}
	s.lines = len(s.live)
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
