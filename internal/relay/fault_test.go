package relay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/relay"
	"panoptes/internal/wire"
)

// holes collects what a receiver was told that it will not get.
type holes struct {
	mu   sync.Mutex
	list []span
}

type span struct {
	source   string
	from, to time.Time
}

func (h *holes) add(source string, from, to time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, span{source, from, to})
}

func (h *holes) all() []span {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]span(nil), h.list...)
}

func (h *holes) covers(at int64) bool {
	for _, s := range h.all() {
		if s.from.UnixMilli() <= at && at <= s.to.UnixMilli() {
			return true
		}
	}
	return false
}

// The disk of the log is full: nothing is taken, and again when there is space.
func TestDiskFullHere(t *testing.T) {
	c := newCluster(t, "a", "b")
	a, b := c.nodes["a"], c.nodes["b"]
	var free atomic.Uint64
	free.Store(1 << 30)
	a.cfg.MinFreeBytes = 1 << 20
	a.deps.Free = func(string) (uint64, error) { return free.Load(), nil }
	c.startAll()
	require.NoError(t, a.relay.Append(context.Background(), batch("m", 10, now())))
	free.Store(1000)
	require.Eventually(t, func() bool {
		app := a.relay.Appender(context.Background())
		_, err := app.Append(0, series("m", 0), now(), 1)
		require.NoError(t, app.Rollback())
		return errors.Is(err, model.ErrNoSpace)
	}, patience, 10*time.Millisecond)
	require.ErrorIs(t, a.relay.Append(context.Background(), batch("m", 10, now())), model.ErrNoSpace)
	require.ErrorIs(t, a.relay.AppendEvents(context.Background(), event("x")), model.ErrNoSpace)
	require.Equal(t, 10, a.count("m"))
	require.NoError(t, b.relay.Append(context.Background(), batch("n", 10, now())), "what others send is stored")
	require.Equal(t, 10, a.count("n"))
	free.Store(1 << 30)
	require.Eventually(t, func() bool { return a.relay.Append(context.Background(), batch("m", 10, now()+1)) == nil }, patience, 10*time.Millisecond)
	require.Equal(t, 20, b.count("m"))
}

// After a failed sync nothing of that segment's end is acknowledged, and the
// next segment works.
func TestFailedSync(t *testing.T) {
	for name, cause := range map[string]error{"full": syscall.ENOSPC, "broken": syscall.EIO} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, "a", "b")
			a, b := c.nodes["a"], c.nodes["b"]
			var broken atomic.Bool
			a.deps.Sync = func(f *os.File) error {
				if broken.Load() && filepath.Ext(f.Name()) == ".seg" {
					return cause
				}
				return f.Sync()
			}
			c.startAll()
			require.NoError(t, a.relay.Append(context.Background(), batch("m", 10, now())))
			c.link("a", "b", false)
			c.setAlive("a")
			require.NoError(t, a.relay.Append(context.Background(), batch("m", 10, now()+1)))
			broken.Store(true)
			want := model.ErrUnavailable
			if cause == syscall.ENOSPC {
				want = model.ErrNoSpace
			}
			require.ErrorIs(t, a.relay.Append(context.Background(), batch("lost", 10, now()+2)), want)
			require.Eventually(t, func() bool {
				return a.relay.Append(context.Background(), batch("lost", 10, now()+3)) != nil
			}, patience, 10*time.Millisecond)
			broken.Store(false)
			require.Eventually(t, func() bool { return a.relay.Append(context.Background(), batch("m", 10, now()+4)) == nil }, patience, 10*time.Millisecond)
			c.link("a", "b", true)
			require.Eventually(t, func() bool { return b.count("m") == a.count("m") }, patience, 5*time.Millisecond)
			require.Zero(t, b.count("lost"))
		})
	}
}

// rough is a batch of values that cannot be made smaller.
func rough(name string, n int, at int64) model.Batch {
	rnd := rand.New(rand.NewPCG(uint64(at), 1))
	b := batch(name, n, at)
	for i := range b {
		b[i].V = rnd.Float64()
	}
	return b
}

// fillLog appends rounds that b, which is away, does not get, and stops a.
func fillLog(t *testing.T, c *cluster, rounds int) (at []int64) {
	t.Helper()
	a := c.nodes["a"]
	a.cfg.SegmentBytes = 8000
	c.startAll()
	c.setAlive("a")
	c.nodes["b"].stop()
	start := now() - 60_000
	for i := range rounds {
		at = append(at, start+int64(i))
		require.NoError(t, a.relay.Append(context.Background(), rough("m", 100, at[i])))
	}
	a.stop()
	require.Greater(t, len(a.segments()), 3)
	return at
}

// times tells which instants of a metric a node has.
func (n *node) times(name string) map[int64]bool {
	got := map[int64]bool{}
	for _, points := range n.read(name) {
		for _, p := range points {
			got[p.t] = true
		}
	}
	return got
}

// Damage costs the rest of its segment: that is told, all else arrives.
func TestDamagedSegments(t *testing.T) {
	flip := func(offset int) func(t *testing.T, files []string) {
		return func(t *testing.T, files []string) {
			path := files[1]
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			b[len(b)*offset/100] ^= 0x10
			require.NoError(t, os.WriteFile(path, b, 0o600))
		}
	}
	for name, harm := range map[string]func(t *testing.T, files []string){
		"header": flip(0),
		"middle": flip(50),
		"end":    flip(99),
		"cut": func(t *testing.T, files []string) {
			fi, _ := os.Stat(files[1])
			t.Log(fi.Size(), len(files))
			require.NoError(t, os.Truncate(files[1], 5000))
		},
		"header only": func(t *testing.T, files []string) { require.NoError(t, os.Truncate(files[1], 96)) },
		"emptied":     func(t *testing.T, files []string) { require.NoError(t, os.Truncate(files[1], 80)) },
		"newest": func(t *testing.T, files []string) {
			b, err := os.ReadFile(files[len(files)-1])
			require.NoError(t, err)
			b[100] ^= 1
			require.NoError(t, os.WriteFile(files[len(files)-1], b, 0o600))
		},
		"newest cut": func(t *testing.T, files []string) { require.NoError(t, os.Truncate(files[len(files)-1], 100)) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, "a", "b")
			at := fillLog(t, c, 60)
			a, b := c.nodes["a"], c.nodes["b"]
			harm(t, a.segments())
			var told holes
			b.deps.Missed = told.add
			a.start()
			b.start()
			a.relay.SetDestinations(c.ids())
			a.relay.SetAlive(c.ids())
			require.Eventually(t, func() bool { d := a.destination("b"); return d.Connected && d.Bytes == 0 && !d.Dropped }, patience, 5*time.Millisecond)
			require.NoError(t, a.relay.Append(context.Background(), batch("after", 1, now())))
			require.Equal(t, 1, b.count("after"))
			got := b.times("m")
			missing := 0
			for _, ts := range at {
				if !got[ts] {
					missing++
					require.True(t, told.covers(ts), "nobody was told that %d is missing, only of %v", ts, told.all())
				}
			}
			require.Positive(t, missing)
			require.Less(t, missing, len(at)/2)
			aside, err := filepath.Glob(filepath.Join(a.dir, "relay", "*.damaged"))
			require.NoError(t, err)
			require.NotEmpty(t, aside)
		})
	}
}

// The end of the newest segment may be torn by a power cut: nothing of it was
// acknowledged, so nobody needs to hear of it.
func TestTornTail(t *testing.T) {
	for name, tail := range map[string][]byte{"zeros": make([]byte, 5000), "half a record": {0xff, 0, 0, 0, 1, 2, 3, 4, 5, 6}, "half a head": {7, 0}} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, "a", "b")
			at := fillLog(t, c, 60)
			a, b := c.nodes["a"], c.nodes["b"]
			files := a.segments()
			f, err := os.OpenFile(files[len(files)-1], os.O_APPEND|os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = f.Write(tail)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			var told holes
			b.deps.Missed = told.add
			for range 2 { // the second start finds nothing torn
				a.start()
				a.stop()
			}
			a.start()
			b.start()
			require.Eventually(t, func() bool { return len(b.times("m")) == len(at) }, patience, 5*time.Millisecond)
			require.Empty(t, told.all())
			require.Empty(t, cmp.Diff(a.read("m"), b.read("m"), cmp.AllowUnexported(point{})))
		})
	}
}

// Without its cursors a log is sent from its beginning.
func TestLostCursors(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"gone":    os.Remove,
		"damaged": func(path string) error { return os.WriteFile(path, []byte(`{"log":"x`), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, "a", "b")
			at := fillLog(t, c, 60)
			a, b := c.nodes["a"], c.nodes["b"]
			require.NoError(t, harm(filepath.Join(a.dir, "relay", "state.json")))
			for range 2 { // the second start finds cursors that name nobody
				a.start()
				a.relay.Trim(time.Now())
				a.stop()
			}
			a.start()
			b.start()
			a.relay.SetDestinations(c.ids())
			require.Eventually(t, func() bool { return len(b.times("m")) == len(at) }, patience, 5*time.Millisecond)
		})
	}
}

// A log that grows beyond its bounds drops its oldest end, and says so.
func TestBounds(t *testing.T) {
	for _, by := range []string{"size", "age"} {
		t.Run(by, func(t *testing.T) {
			c := newCluster(t, "a", "b")
			at := fillLog(t, c, 60)
			a, b := c.nodes["a"], c.nodes["b"]
			before := len(a.segments())
			if by == "size" {
				a.cfg.MaxBytes = 30_000
			} else {
				a.cfg.MaxAge = time.Millisecond
			}
			a.start()
			require.Eventually(t, func() bool { return len(a.segments()) < before && a.destination("b").Dropped }, patience, 10*time.Millisecond)
			a.stop()
			var told holes
			b.deps.Missed = told.add
			a.start()
			require.True(t, a.destination("b").Dropped, "it is not forgotten over a restart")
			b.start()
			require.Eventually(t, func() bool { d := a.destination("b"); return d.Connected && !d.Dropped && d.Bytes == 0 }, patience, 5*time.Millisecond)
			got := b.times("m")
			require.False(t, got[at[0]])
			if by == "size" {
				require.True(t, got[at[len(at)-1]])
			}
			for _, ts := range at {
				require.True(t, got[ts] || told.covers(ts), "nobody was told that %d is missing", ts)
			}
			require.Len(t, told.all(), 1)
			require.Equal(t, "a", told.all()[0].source)
		})
	}
}

// Old segments may be dropped while they are checked.
func TestDroppedWhileChecked(t *testing.T) {
	c := newCluster(t, "a", "b")
	fillLog(t, c, 200)
	a := c.nodes["a"]
	a.openStores()
	cfg := a.cfg
	cfg.Dir, cfg.MaxBytes = filepath.Join(a.dir, "relay"), 30_000
	r, err := relay.New(cfg, relay.Deps{Store: a.store, Events: a.events, Dial: func(string) (wire.Conn, error) { return nil, model.ErrUnavailable }})
	require.NoError(t, err)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.CheckOld(t.Context()) })
	r.Trim(time.Now())
	require.Less(t, len(a.segments()), 5)
	require.True(t, r.Destinations()[0].Dropped)
}

// Series that come and go do not keep a segment from its end, however many they
// are: only what is ended can be dropped.
func TestBoundsHoldWhileSeriesComeAndGo(t *testing.T) {
	for name, round := range map[string]func(i int, at int64) model.Batch{
		"one in a hundred": func(i int, at int64) model.Batch {
			return append(rough("m", 100, at), batch(fmt.Sprint("new", i), 1, at)...)
		},
		"all": func(i int, at int64) model.Batch { return rough(fmt.Sprint("new", i), 100, at) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, "a", "b")
			a := c.nodes["a"]
			a.cfg.SegmentBytes, a.cfg.MaxBytes = 8000, 40_000
			c.startAll()
			c.setAlive("a")
			c.nodes["b"].stop()
			for i := range 120 {
				require.NoError(t, a.relay.Append(context.Background(), round(i, now()-1000+int64(i))))
			}
			size := func() (n int64) {
				for _, path := range a.segments() {
					if fi, err := os.Stat(path); err == nil {
						n += fi.Size()
					}
				}
				return n
			}
			require.Eventually(t, func() bool { return size() <= a.cfg.MaxBytes }, patience, 10*time.Millisecond)
			require.Greater(t, len(a.segments()), 1)
		})
	}
}

// What is dropped while the destination is connected is told at once.
func TestDroppedWhileConnected(t *testing.T) {
	c := newCluster(t, "a", "b")
	a, b := c.nodes["a"], c.nodes["b"]
	a.cfg.SegmentBytes, a.cfg.MaxBytes = 8000, 30_000
	var told holes
	b.deps.Missed = told.add
	g := b.gate()
	c.startAll()
	g.close()
	c.setAlive("a")
	for i := range 100 {
		require.NoError(t, a.relay.Append(context.Background(), rough("m", 100, now()-1000+int64(i))))
	}
	require.Eventually(t, func() bool { return a.destination("b").Dropped }, patience, 10*time.Millisecond)
	g.open()
	require.Eventually(t, func() bool { d := a.destination("b"); return !d.Dropped && d.Connected && d.Bytes == 0 }, patience, 5*time.Millisecond)
	require.NotEmpty(t, told.all())
}
