package model_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

func TestNewIDSortsByTimeAndOrder(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	last := model.NewID(at.Add(-time.Millisecond))
	require.Len(t, last, 26)
	for range 1000 {
		id := model.NewID(at)
		require.Greater(t, id, last)
		last = id
	}
	require.Greater(t, model.NewID(at.Add(time.Millisecond)), last)
	require.Len(t, model.NewID(time.Time{}), 26, "a time without meaning must not panic")
}

func TestNewIDIsUniqueAcrossGoroutines(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				id := model.NewID(time.UnixMilli(5))
				mu.Lock()
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Len(t, seen, 4000)
}
