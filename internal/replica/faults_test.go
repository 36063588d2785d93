package replica_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"panoptes/internal/history"
	"panoptes/internal/model"
	"panoptes/internal/replica"
)

// pair is a full server and an empty one.
func pair(t *testing.T) (c *cluster, a, b *server) {
	t.Helper()
	c = newCluster(t)
	a = c.add("a").start()
	a.fill(20, hoursAgo(11), hoursAgo(0))
	a.happen(50, hoursAgo(20))
	a.compact()
	return c, a, c.add("b")
}

// blockBytes is the size of all blocks.
func (s *server) blockBytes() (n int64) {
	s.c.t.Helper()
	blocks, err := s.store.Blocks()
	require.NoError(s.c.t, err)
	for _, b := range blocks {
		n += b.Bytes
	}
	return n
}

// join says that the server has nothing, and waits until it has all.
func (s *server) join() {
	s.c.t.Helper()
	s.replica.Need(time.Time{}, time.Time{}, "joined")
	s.complete()
}

func TestJoinUnderWriteLoad(t *testing.T) {
	c, a, b := pair(t)
	var fed atomic.Bool
	b.deps.Fed = fed.Load
	b.start()
	b.replica.Need(time.Time{}, time.Time{}, "joined")
	// Writers go on; from some moment on the relay brings every sample to b too.
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			at := time.Now().UnixMilli()
			if i%3 == 0 {
				at -= 5 * 3600_000 // late ones
			}
			batch := model.Batch{{Labels: series("live", i%7), T: at + int64(i), V: float64(i)}}
			err := a.store.Append(context.Background(), batch)
			if err == nil && i >= 50 {
				err = b.store.Append(context.Background(), batch)
			}
			if err != nil {
				done <- fmt.Errorf("append %d: %w", i, err)
				return
			}
			if i == 50 {
				fed.Store(true)
			}
		}
		done <- nil
	}()
	b.complete()
	cancel()
	require.NoError(t, <-done)
	require.Equal(t, a.contents(0, hoursAgo(-1)), b.contents(0, hoursAgo(-1)))
	_ = c
}

func TestSourceIsKilled(t *testing.T) {
	c, a, b := pair(t)
	second := c.add("c").start()
	second.join()
	require.Equal(t, a.contents(0, hoursAgo(-1)), second.contents(0, hoursAgo(-1)))

	imported := prometheus.NewRegistry()
	b.deps.Registerer = imported
	var bytes atomic.Int64
	half := a.blockBytes() / 2
	killed := make(chan struct{})
	c.watch(func(receiver, method string, m []byte) ([]byte, error) {
		if receiver == "b" && method == "replica.block" && bytes.Add(int64(len(m))) > half {
			select {
			case <-killed:
			default:
				close(killed)
				go a.stop()
				return nil, fmt.Errorf("the source was killed: %w", model.ErrUnavailable)
			}
		}
		return m, nil
	})
	want := a.contents(0, hoursAgo(-1))
	b.start()
	b.join()
	<-killed
	require.Equal(t, want, b.contents(0, hoursAgo(-1)))
	blocks, err := b.store.Blocks()
	require.NoError(t, err)
	n, err := testutil.GatherAndCount(imported, "panoptes_replica_blocks_imported_total")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.GreaterOrEqual(t, len(blocks), 4)
}

func TestReceiverIsKilledAndGoesOn(t *testing.T) {
	c, a, b := pair(t)
	var first, second atomic.Int64
	stop := make(chan struct{})
	half := a.blockBytes() / 2
	c.watch(func(_, method string, m []byte) ([]byte, error) {
		if method != "replica.block" {
			return m, nil
		}
		if first.Add(int64(len(m))) > half {
			select {
			case <-stop:
			default:
				close(stop)
			}
			return nil, fmt.Errorf("killed: %w", model.ErrUnavailable)
		}
		return m, nil
	})
	b.start()
	b.replica.Need(time.Time{}, time.Time{}, "joined")
	<-stop
	b.stop()
	require.FileExists(t, filepath.Join(b.dir, "replica", "replica.json"))

	c.watch(func(_, method string, m []byte) ([]byte, error) {
		if method == "replica.block" {
			second.Add(int64(len(m)))
		}
		return m, nil
	})
	b.start() // nobody tells it again
	require.False(t, b.replica.Status().Complete)
	b.complete()
	require.Equal(t, a.contents(0, hoursAgo(-1)), b.contents(0, hoursAgo(-1)))
	require.Less(t, second.Load(), half*18/10, "what was copied before counts")
	left, err := os.ReadDir(filepath.Join(b.dir, "tsdb", "incoming"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestByteFlippedOnTheWay(t *testing.T) {
	c, a, b := pair(t)
	flips := 0
	c.watch(func(_, method string, m []byte) ([]byte, error) {
		if (method == "replica.block" || method == "replica.recent") && len(m) > 5000 && m[0] == 'd' && flips < 3 {
			flips++
			m = append([]byte(nil), m...)
			m[3000] ^= 4
		}
		return m, nil
	})
	b.start()
	b.join()
	require.Equal(t, 3, flips)
	require.Equal(t, a.contents(0, hoursAgo(-1)), b.contents(0, hoursAgo(-1)))
}

// flip damages the samples of a block on the disk of a server.
func (s *server) flip(id string) {
	s.c.t.Helper()
	path := filepath.Join(s.dir, "tsdb", id, "chunks", "000001")
	content, err := os.ReadFile(path)
	require.NoError(s.c.t, err)
	content[len(content)/2] ^= 0x40
	require.NoError(s.c.t, os.WriteFile(path, content, 0o600))
}

func TestByteFlippedOnTheDiskOfTheSource(t *testing.T) {
	c, a, b := pair(t)
	second := c.add("c").start()
	second.join()
	want := a.contents(0, hoursAgo(-1))
	blocks, err := a.store.Blocks()
	require.NoError(t, err)
	a.flip(blocks[1].ID) // a comes first as a source, and does not know
	b.start()
	b.join()
	require.Equal(t, want, b.contents(0, hoursAgo(-1)), "taken from the other one")
	// The source was told, and has mended itself from another server.
	require.Eventually(t, func() bool { return len(a.store.Damage()) == 1 && a.replica.Status().Complete }, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, want, a.contents(0, hoursAgo(-1)))
	left, err := a.store.Blocks()
	require.NoError(t, err)
	for _, v := range left {
		require.NotEqual(t, blocks[1].ID, v.ID, "the damaged block is out of use")
	}
}

func TestDamagedEverywhereIsToldAndDoesNotSpread(t *testing.T) {
	_, a, b := pair(t)
	blocks, err := a.store.Blocks()
	require.NoError(t, err)
	a.flip(blocks[1].ID)
	b.start()
	b.join()
	require.Equal(t, "critical", b.event("store.lost").Severity)
	got, err := b.store.Blocks()
	require.NoError(t, err)
	for _, v := range got {
		require.NotEqual(t, blocks[1].ID, v.ID)
	}
	require.NotEmpty(t, got, "the others were taken")
}

func TestDiskTooSmall(t *testing.T) {
	_, a, b := pair(t)
	var free atomic.Uint64
	free.Store(uint64(a.blockBytes()))
	b.free = func(string) (uint64, error) { return free.Load(), nil }
	b.start()
	b.replica.Need(time.Time{}, time.Time{}, "joined")
	require.Eventually(t, func() bool { return b.replica.Status().LastErr != "" }, 10*time.Second, 5*time.Millisecond)
	require.Contains(t, b.replica.Status().LastErr, "free some space")
	blocks, err := b.store.Blocks()
	require.NoError(t, err)
	require.Empty(t, blocks, "nothing is begun that cannot end")
	free.Store(1 << 40)
	b.complete()
	require.Empty(t, b.replica.Status().LastErr)
	require.Equal(t, a.contents(0, hoursAgo(-1)), b.contents(0, hoursAgo(-1)))
}

func TestBlocksVanishDuringTheCopy(t *testing.T) {
	c, a, b := pair(t)
	blocks, err := a.store.Blocks()
	require.NoError(t, err)
	oldest, done := blocks[0], false
	c.watch(func(_, method string, m []byte) ([]byte, error) {
		if method == "replica.block" && !done { // the newest comes first
			done = true
			if err := a.store.Retire(context.Background(), oldest.ID); err != nil {
				return nil, err
			}
		}
		return m, nil
	})
	b.start()
	b.join()
	require.True(t, done)
	require.Equal(t, a.contents(0, hoursAgo(-1)), b.contents(0, hoursAgo(-1)))
}

func TestDamagedHistoryIsCopied(t *testing.T) {
	_, a, b := pair(t)
	b.start()
	b.join()
	b.stop()
	require.NoError(t, os.WriteFile(filepath.Join(b.dir, "history.db"), []byte("this is no database at all, whoever wrote it"), 0o600))
	b.start()
	require.Error(t, b.history.Damaged())
	require.Eventually(t, func() bool {
		return b.replica.Status().Events == 50 && b.replica.Status().Complete
	}, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, a.contents(0, hoursAgo(-1)), b.contents(0, hoursAgo(-1)))
}

// The process that set the file aside may be killed before it noted the need.
func TestHistorySetAsideEarlierIsCopiedOnce(t *testing.T) {
	_, a, b := pair(t)
	b.start()
	b.join()
	b.stop()
	path := filepath.Join(b.dir, "history.db")
	require.NoError(t, os.WriteFile(path, []byte("this is no database at all, whoever wrote it"), 0o600))
	h, err := history.New(history.Config{Path: path, MinFreeBytes: -1}, history.Deps{})
	require.NoError(t, err)
	require.Error(t, h.Damaged())
	h.Close()
	b.start()
	require.NoError(t, b.history.Damaged())
	require.Eventually(t, func() bool {
		return b.replica.Status().Events == 50 && b.replica.Status().Complete
	}, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, a.contents(0, hoursAgo(-1)), b.contents(0, hoursAgo(-1)))
	b.stop()

	b.start()
	b.replica.Need(time.UnixMilli(hoursAgo(-2)), time.UnixMilli(hoursAgo(-3)), "something later, met after what was needed before")
	b.complete()
	state, err := os.ReadFile(filepath.Join(b.dir, "replica", "replica.json"))
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(state), "lost history:"), "it is copied once")
}

func TestDamagedFilesAreFetchedAfterARestart(t *testing.T) {
	_, a, b := pair(t)
	b.start()
	b.join()
	b.stop()
	blocks, err := filepath.Glob(filepath.Join(b.dir, "tsdb", "01*", "index"))
	require.NoError(t, err)
	require.NotEmpty(t, blocks)
	require.NoError(t, os.Truncate(blocks[0], 100))
	b.start()
	require.Eventually(t, func() bool {
		return len(b.store.Lost()) > 0 && b.replica.Status().Done > 0 && b.replica.Status().Complete
	}, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, a.contents(0, hoursAgo(-1)), b.contents(0, hoursAgo(-1)))
}

func TestServersThatLackThingsHelpEachOther(t *testing.T) {
	c := newCluster(t)
	a, b := c.add("a").start(), c.add("b").start()
	from := hoursAgo(9)
	written := 0
	for at := from; at < hoursAgo(0); at += 60_000 {
		written++
		if at/3600_000%2 == 0 {
			a.put(series("m", 1), at, 1)
		} else {
			b.put(series("m", 1), at, 1)
		}
	}
	a.compact()
	b.compact()
	for _, s := range []*server{a, b} {
		s.replica.Need(time.UnixMilli(from), time.Now(), "the relay dropped something")
	}
	a.complete()
	b.complete()
	require.Equal(t, a.contents(0, hoursAgo(-1)), b.contents(0, hoursAgo(-1)))
	require.EqualValues(t, written, count(a.contents(0, hoursAgo(-1))))
}

func count(c contents) (n uint64) {
	for _, d := range c.Samples {
		n += d.Samples
	}
	return n
}

func TestNobodyIsFilledFromOneThatIsBeingFilled(t *testing.T) {
	c := newCluster(t)
	a, b := c.add("a").start(), c.add("b").start()
	for _, s := range []*server{a, b} {
		s.replica.Need(time.Time{}, time.Time{}, "joined")
	}
	require.Eventually(t, func() bool {
		return a.replica.Status().LastErr != "" && b.replica.Status().LastErr != ""
	}, 10*time.Second, 5*time.Millisecond)
	require.False(t, a.replica.Status().Complete)
	full := c.add("c").start()
	full.put(series("m", 1), hoursAgo(1), 1)
	a.complete()
	b.complete()
	require.Equal(t, full.contents(0, hoursAgo(-1)), a.contents(0, hoursAgo(-1)))
	require.Equal(t, full.contents(0, hoursAgo(-1)), b.contents(0, hoursAgo(-1)))
}

func TestConfigNamesTheField(t *testing.T) {
	_, err := replica.New(replica.Config{BytesPerSecond: 5, Shards: -1}, replica.Deps{})
	var inv model.Invalid
	require.ErrorAs(t, err, &inv)
	var fields []string
	for _, f := range inv {
		fields = append(fields, f.Field)
	}
	require.Equal(t, []string{"dir", "node_id", "bytes_per_second", "shards"}, fields)
}

func TestDamagedStateMeansThatEverythingIsNeeded(t *testing.T) {
	_, a, b := pair(t)
	b.start()
	b.stop()
	require.NoError(t, os.WriteFile(filepath.Join(b.dir, "replica", "replica.json"), []byte("{"), 0o600))
	b.start()
	b.complete()
	require.Equal(t, a.contents(0, hoursAgo(-1)), b.contents(0, hoursAgo(-1)))
}

func TestDamageOfTheOnlyServerIsToldAndNotWaitedFor(t *testing.T) {
	c := newCluster(t)
	a := c.add("a")
	var alone atomic.Bool
	a.deps.Alone = alone.Load
	a.start()
	a.fill(2, hoursAgo(9), hoursAgo(0))
	a.compact()
	a.stop()
	blocks, err := filepath.Glob(filepath.Join(a.dir, "tsdb", "01*", "index"))
	require.NoError(t, err)
	require.NoError(t, os.Truncate(blocks[0], 100))
	a.start()
	require.Eventually(t, func() bool { return a.replica.Status().LastErr != "" }, 10*time.Second, 5*time.Millisecond)
	require.False(t, a.replica.Status().Complete, "another server may come back")
	alone.Store(true)
	require.Equal(t, "critical", a.event("store.lost").Severity)
	a.complete()
}
