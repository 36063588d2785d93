package control_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/control"
	"panoptes/internal/model"
	"panoptes/test/harness"
)

// Proposals get lost when leaders change; each write is repeated until it is
// known to be there, and is there once although nothing guards it.
func TestEveryWriteOnceWhileLeadersChange(t *testing.T) {
	cl := newCluster(t)
	n1 := cl.first()
	cl.join(n1, "n2")
	cl.join(n1, "n3")
	cl.voters(n1, 3)
	from := put(t, n1, "once/begin")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	acked := map[string]int64{}
	var slowest time.Duration
	var wg sync.WaitGroup
	for id, n := range cl.nodes {
		for w := range 2 {
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					key, began := fmt.Sprintf("once/%s-%d-%d", id, w, i), time.Now()
					rev, err := n.ctl.Put(context.Background(), key, nil, model.KVAny)
					if err != nil {
						t.Errorf("%s: %s", key, err)
						return
					}
					mu.Lock()
					acked[key] = rev
					slowest = max(slowest, time.Since(began))
					mu.Unlock()
				}
			})
		}
	}
	for i := range 15 {
		to := fmt.Sprintf("n%d", i%3+1)
		require.NoError(t, n1.ctl.MoveLeader(ctx, to))
		mu.Lock()
		have := len(acked)
		mu.Unlock()
		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(acked) >= have+20
		}, 30*time.Second, time.Millisecond)
	}
	cancel()
	wg.Wait()
	end := put(t, n1, "once/end")
	seen := map[string]int64{}
	last := from
	for b := range n1.ctl.Watch(t.Context(), "once/", from) {
		for _, ev := range b.Events {
			require.Zero(t, seen[ev.Key], "%s was written twice", ev.Key)
			require.Greater(t, ev.Revision, last, "revisions rise")
			seen[ev.Key], last = ev.Revision, ev.Revision
		}
		if last >= end {
			break
		}
	}
	delete(seen, "once/end")
	require.Equal(t, acked, seen)
	t.Logf("%d writes over 15 changes of the leader, each once; the slowest took %s", len(acked), slowest.Round(time.Millisecond))
}

func BenchmarkPut(b *testing.B) {
	c, err := control.New(config(b.TempDir()), control.Deps{})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	<-c.Ready()
	for b.Loop() {
		_, err := c.Put(ctx, "k", []byte("v"), model.KVAny)
		require.NoError(b, err)
	}
	cancel()
	require.NoError(b, <-done)
}

func BenchmarkPutThree(b *testing.B) {
	cfgs := make([]control.Config, 3)
	var initial []control.Member
	ca := newAuthority(b)
	for i := range cfgs {
		id := fmt.Sprintf("n%d", i+1)
		cfgs[i] = control.Config{
			Dir: b.TempDir(), NodeID: id, ClusterID: "bench", ReserveBytes: 1 << 20, PeerAddr: harness.FreeAddr(b, "127.0.0.1"),
			PeerTLS: ca.issue(b, b.TempDir(), serverCN), AllowedCN: serverCN,
		}
		initial = append(initial, control.Member{NodeID: id, Addr: cfgs[i].PeerAddr})
	}
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var first *control.Control
	for i := range cfgs {
		cfgs[i].Initial = initial
		c, err := control.New(cfgs[i], control.Deps{})
		require.NoError(b, err)
		wg.Go(func() { _ = c.Run(ctx) })
		first = c
	}
	<-first.Ready()
	for b.Loop() {
		_, err := first.Put(ctx, "k", []byte("v"), model.KVAny)
		require.NoError(b, err)
	}
}
