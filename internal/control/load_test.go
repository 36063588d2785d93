package control_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

// ack is a write that was acknowledged.
type ack struct {
	key string
	n   int
	rev int64
	at  time.Time
}

// load swaps counters with conditions, about 50 times a second, and notes what
// was acknowledged. Each writer has its own key, and all of them one together.
type load struct {
	t       *testing.T
	kids    func() []*child // who may be asked now
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	mu      sync.Mutex
	acks    []ack
	unknown map[string]int // writes of a key that may have happened
	refused int
}

const loadWriters = 5

func startLoad(t *testing.T, kids func() []*child) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, kids: kids, cancel: cancel, unknown: map[string]int{}}
	for w := range loadWriters {
		l.wg.Go(func() {
			tick := time.NewTicker(time.Second * loadWriters / 50)
			defer tick.Stop()
			for i := w; ; i++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				kids := l.kids()
				key := fmt.Sprintf("load/%d", w)
				if i%5 == 0 {
					key = "load/all"
				}
				l.swap(kids[i%len(kids)], key)
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}

// swap adds one to the counter of key.
func (l *load) swap(k *child, key string) {
	kv, err := k.do(request{Do: "get", Key: key, Timeout: 2 * time.Second})
	if err != nil && !errors.Is(err, model.ErrNotFound) {
		return
	}
	n, _ := strconv.Atoi(kv.Value)
	a, err := k.do(request{Do: "put", Key: key, Value: strconv.Itoa(n + 1), Expect: kv.Rev, Timeout: 4 * time.Second})
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.acks = append(l.acks, ack{key, n + 1, a.Rev, time.Now()})
	case errors.Is(err, model.ErrRevision), errors.Is(err, model.ErrConflict):
		l.refused++
	default:
		l.unknown[key]++
	}
}

// acked waits until n more writes are acknowledged.
func (l *load) more(n int) {
	l.t.Helper()
	l.mu.Lock()
	want := len(l.acks) + n
	l.mu.Unlock()
	require.Eventually(l.t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.acks) >= want
	}, 60*time.Second, 20*time.Millisecond, "the load goes on")
}

// gap is the longest time without an acknowledgement after from.
func (l *load) gap(from time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, longest := from, time.Duration(0)
	for _, a := range l.acks {
		if a.at.After(from) {
			longest = max(longest, a.at.Sub(last))
			last = a.at
		}
	}
	return longest
}

// check compares what the members have with what was acknowledged.
func (l *load) check(kids ...*child) {
	l.t.Helper()
	l.stop()
	require.NotEmpty(l.t, l.acks)
	acked, newest := map[string]int{}, map[string]ack{}
	revs := map[int64]bool{}
	for _, a := range l.acks {
		require.False(l.t, revs[a.rev], "two writes were acknowledged at revision %d", a.rev)
		revs[a.rev] = true
		acked[a.key]++
		if a.n > newest[a.key].n {
			newest[a.key] = a
		}
	}
	byKey := map[string][]ack{}
	for _, a := range l.acks {
		byKey[a.key] = append(byKey[a.key], a)
	}
	for key, as := range byKey {
		slices.SortFunc(as, func(a, b ack) int { return a.n - b.n })
		for i := 1; i < len(as); i++ {
			require.Less(l.t, as[i-1].n, as[i].n, "%s: the same step was acknowledged twice", key)
			require.Less(l.t, as[i-1].rev, as[i].rev, "%s: revisions rise with the steps", key)
		}
		for _, k := range kids {
			var kv answer
			require.Eventually(l.t, func() bool {
				var err error
				kv, err = k.do(request{Do: "get", Key: key, Timeout: time.Second})
				return err == nil && kv.Rev >= newest[key].rev
			}, 20*time.Second, 50*time.Millisecond, "%s on %s misses revision %d", key, k.cfg.NodeID, newest[key].rev)
			got, _ := strconv.Atoi(kv.Value)
			require.GreaterOrEqual(l.t, got, acked[key], "%s on %s: acknowledged writes are lost", key, k.cfg.NodeID)
			require.LessOrEqual(l.t, got, acked[key]+l.unknown[key], "%s on %s: writes were carried out twice", key, k.cfg.NodeID)
		}
	}
	var unknown []string
	for k, n := range l.unknown {
		unknown = append(unknown, fmt.Sprintf("%s: %d", k, n))
	}
	l.t.Logf("%d writes acknowledged, 0 lost; %d lost a race; unknown outcome: %s", len(l.acks), l.refused, strings.Join(unknown, ", "))
}

func (f *family) all() []*child {
	var out []*child
	for _, k := range f.kids {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b *child) int { return strings.Compare(a.cfg.NodeID, b.cfg.NodeID) })
	return out
}
