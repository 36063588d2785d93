package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

// block makes a block of five samples per series below dir.
func block(t *testing.T, dir, name string, from time.Time) string {
	t.Helper()
	opts := tsdb.DefaultOptions()
	db, err := tsdb.Open(t.TempDir(), nil, nil, opts, nil)
	require.NoError(t, err)
	app := db.Appender(context.Background())
	for i := range 5 {
		_, err := app.Append(0, series(name, 1), from.Add(time.Duration(i)*time.Minute).UnixMilli(), float64(i))
		require.NoError(t, err)
	}
	require.NoError(t, app.Commit())
	tmp := filepath.Join(t.TempDir(), "snap")
	require.NoError(t, db.Snapshot(tmp, true))
	require.NoError(t, db.Close())
	entries, err := os.ReadDir(tmp)
	require.NoError(t, err)
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err == nil {
			require.NoError(t, os.CopyFS(filepath.Join(dir, e.Name()), os.DirFS(filepath.Join(tmp, e.Name()))))
			return e.Name()
		}
	}
	t.Fatal("no block")
	return ""
}

func TestDamagedBlockIsSetAside(t *testing.T) {
	old := time.Now().Add(-24 * time.Hour)
	f := func(what string, damage func(dir string) error) {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			bad := block(t, dir, "bad", old)
			block(t, dir, "good", old.Add(4*time.Hour))
			require.NoError(t, damage(filepath.Join(dir, bad)))
			require.NoError(t, os.MkdirAll(filepath.Join(dir, bad+".tmp-for-creation", "chunks"), 0o700))
			s := storetest.New(t, store.Config{Dir: dir})
			require.Equal(t, 5, count(read(t, s, "good")))
			require.Zero(t, count(read(t, s, "bad")))
			require.NoError(t, appendOne(s, series("new", 1), time.Now(), 1))
			rep := s.Damage()
			require.Len(t, rep, 1)
			require.Equal(t, store.DamageBlock, rep[0].Kind)
			require.Equal(t, bad, rep[0].Path)
			require.DirExists(t, filepath.Join(dir, rep[0].Quarantined))
			require.FileExists(t, filepath.Join(dir, rep[0].Quarantined+".json"))
			require.NoDirExists(t, filepath.Join(dir, bad+".tmp-for-creation"))
			if what != "meta" {
				require.Equal(t, old.UnixMilli(), rep[0].MinTime)
			}
		})
	}
	f("index", func(d string) error { return os.Truncate(filepath.Join(d, "index"), 40) })
	f("index gone", func(d string) error { return os.Remove(filepath.Join(d, "index")) })
	f("chunks", func(d string) error {
		return os.WriteFile(filepath.Join(d, "chunks", "000001"), []byte("nonsense"), 0o600)
	})
	f("meta", func(d string) error { return os.WriteFile(filepath.Join(d, "meta.json"), []byte("{"), 0o600) })
}

func TestFlippedBitInAChunkIsFoundByReading(t *testing.T) {
	dir := t.TempDir()
	id := block(t, dir, "a", time.Now().Add(-24*time.Hour))
	flip(t, filepath.Join(dir, id, "chunks", "000001"), 12)
	s := storetest.New(t, store.Config{Dir: dir, ScrubPause: time.Millisecond})
	require.Eventually(t, func() bool { return len(s.Damage()) == 1 }, 30*time.Second, time.Millisecond)
	require.Equal(t, store.DamageChunk, s.Damage()[0].Kind)
	require.Equal(t, id, s.Damage()[0].Path)
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[at] ^= 0x55
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

// crashed writes samples in several segments and returns a copy of the
// directory as a crash would leave it.
func crashed(t *testing.T, late bool) (dir string, n int) {
	t.Helper()
	from := t.TempDir()
	s := storetest.New(t, store.Config{Dir: from, SegmentBytes: 32 << 10})
	now := time.Now()
	if late {
		for i := range 20 {
			require.NoError(t, appendOne(s, series("a", i), now, 1))
		}
	}
	for k := range 60 {
		var b model.Batch
		for i := range 400 {
			at := now.Add(time.Duration(k) * time.Second)
			if late {
				at = now.Add(-time.Hour + time.Duration(k)*time.Second)
			}
			// Values that do not compress fill the segments.
			b = append(b, model.Sample{Labels: series("a", i%20), T: at.UnixMilli() + int64(i/20), V: float64((k*400+i)*2654435761%1000003) / 7})
		}
		require.NoError(t, s.Append(context.Background(), b))
	}
	n = count(read(t, s, "a"))
	dir = filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(dir, os.DirFS(from)))
	return dir, n
}

func TestDamagedLogLosesNoMoreThanItsSegment(t *testing.T) {
	for _, kind := range []string{"wal", "wbl"} {
		t.Run(kind, func(t *testing.T) {
			dir, n := crashed(t, kind == "wbl")
			entries, err := os.ReadDir(filepath.Join(dir, kind))
			require.NoError(t, err)
			entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return e.IsDir() })
			require.Greater(t, len(entries), 4, "the test needs several segments")
			hurt := entries[2].Name()
			flip(t, filepath.Join(dir, kind, hurt), 5000)

			s := storetest.New(t, store.Config{Dir: dir, SegmentBytes: 32 << 10})
			got := count(read(t, s, "a"))
			require.Less(t, got, n, "the test damages nothing")
			require.Greater(t, got, n*(len(entries)-2)/len(entries), "of %d samples in %d segments", n, len(entries))
			rep := s.Damage()
			require.Len(t, rep, 1)
			require.Equal(t, kind, rep[0].Kind)
			require.Equal(t, filepath.Join(kind, hurt), rep[0].Path)
			require.FileExists(t, filepath.Join(dir, rep[0].Quarantined))
			require.NotZero(t, rep[0].MinTime)
			require.NoError(t, appendOne(s, series("a", 0), time.Now().Add(5*time.Minute), 1))
		})
	}
}

func TestTornEndOfTheLogIsNoDamage(t *testing.T) {
	dir, n := crashed(t, false)
	entries, err := filepath.Glob(filepath.Join(dir, "wal", "0*"))
	require.NoError(t, err)
	last := entries[len(entries)-1]
	fi, err := os.Stat(last)
	require.NoError(t, err)
	require.Greater(t, fi.Size(), int64(100))
	require.NoError(t, os.Truncate(last, fi.Size()-20))
	s := storetest.New(t, store.Config{Dir: dir, SegmentBytes: 32 << 10})
	require.Equal(t, n-400, count(read(t, s, "a")), "only the last batch is gone")
	require.Empty(t, s.Damage())
	require.NoDirExists(t, filepath.Join(dir, "quarantine"))
}

func TestCrashKeepsEverything(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint("late=", late), func(t *testing.T) {
			dir, n := crashed(t, late)
			s := storetest.New(t, store.Config{Dir: dir, SegmentBytes: 32 << 10})
			require.Equal(t, n, count(read(t, s, "a")))
		})
	}
}

func TestMissingSegmentLosesOnlyItself(t *testing.T) {
	dir, n := crashed(t, false)
	require.NoError(t, os.Remove(filepath.Join(dir, "wal", "00000002")))
	s := storetest.New(t, store.Config{Dir: dir, SegmentBytes: 32 << 10})
	got := count(read(t, s, "a"))
	require.Less(t, got, n)
	require.Greater(t, got, n/2)
	require.Len(t, s.Damage(), 1)
	require.Equal(t, filepath.Join("wal", "00000002"), s.Damage()[0].Path)
}

func TestDamagedCheckpointLosesNoSegment(t *testing.T) {
	dir, n := crashed(t, false)
	cp := filepath.Join(dir, "wal", "checkpoint.00000000")
	require.NoError(t, os.Mkdir(cp, 0o700))
	b, err := os.ReadFile(filepath.Join(dir, "wal", "00000000"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(cp, "00000000"), b, 0o600))
	flip(t, filepath.Join(cp, "00000000"), 10_000)
	s := storetest.New(t, store.Config{Dir: dir, SegmentBytes: 32 << 10})
	got := count(read(t, s, "a"))
	require.Less(t, got, n)
	require.Greater(t, got, n/2, "the TSDB's own repair would delete every segment")
	require.Len(t, s.Damage(), 1)
}

func TestLogThatCannotBeOpenedIsSetAside(t *testing.T) {
	dir := t.TempDir()
	block(t, dir, "old", time.Now().Add(-24*time.Hour))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "wal"), []byte("no directory"), 0o600))
	s := storetest.New(t, store.Config{Dir: dir})
	require.Equal(t, 5, count(read(t, s, "old")))
	require.NotEmpty(t, s.Damage())
	require.Equal(t, store.DamageDatabase, s.Damage()[0].Kind)
	require.NoError(t, appendOne(s, series("new", 1), time.Now(), 1))
}

func TestAdministration(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-24 * time.Hour)
	id := block(t, dir, "old", old)
	s := storetest.New(t, store.Config{Dir: dir})
	require.NoError(t, appendOne(s, series("a", 1), time.Now(), 1))
	metas, err := s.BlockMetas()
	require.NoError(t, err)
	require.Len(t, metas, 1)
	require.Equal(t, id, metas[0].ULID.String())
	at, err := s.StartTime()
	require.NoError(t, err)
	require.Equal(t, old.UnixMilli(), at)
	st, err := s.Stats("__name__", 10)
	require.NoError(t, err)
	require.EqualValues(t, 1, st.NumSeries)

	snap := filepath.Join(t.TempDir(), "snap")
	require.NoError(t, s.Snapshot(snap, true))
	c := storetest.New(t, store.Config{Dir: snap})
	require.Equal(t, 5, count(read(t, c, "old")))
	require.Equal(t, 1, count(read(t, c, "a")))

	require.NoError(t, s.Delete(context.Background(), 0, time.Now().UnixMilli(), labels.MustNewMatcher(labels.MatchEqual, "__name__", "old")))
	require.NoError(t, s.CleanTombstones())
	require.Zero(t, count(read(t, s, "old")))
	require.NoError(t, s.Compact(context.Background()))
	require.Equal(t, 1, count(read(t, s, "a")))
}
