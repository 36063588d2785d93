// Package storetest runs a real store for the tests of others.
package storetest

import (
	"context"
	"testing"
	"time"

	"panoptes/internal/store"
)

// New returns a store that is open and runs until the test ends. An empty Dir
// is a temporary one; without MinFreeBytes the disk may be nearly full.
func New(t testing.TB, cfg store.Config) *store.Store {
	t.Helper()
	return NewWith(t, cfg, store.Deps{})
}

// NewWith is New with collaborators.
func NewWith(t testing.TB, cfg store.Config, deps store.Deps) *store.Store {
	t.Helper()
	s, stop := Start(t, cfg, deps)
	t.Cleanup(stop)
	return s
}

// Start is NewWith for tests that end the store themselves. Calling stop twice
// does nothing more.
func Start(t testing.TB, cfg store.Config, deps store.Deps) (s *store.Store, stop func()) {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.MinFreeBytes == 0 {
		cfg.MinFreeBytes = -1
	}
	if cfg.ReserveBytes == 0 {
		cfg.ReserveBytes = -1
	}
	s, err := store.New(cfg, deps)
	if err != nil {
		t.Fatalf("new store: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run store: %v", err)
		}
	}
	select {
	case <-s.Ready():
	case <-time.After(30 * time.Second):
		stop()
		t.Fatalf("store not ready: %v", s.Health())
	}
	return s, stop
}
