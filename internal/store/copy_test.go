package store_test

import (
	"context"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

const twoHours = int64(2 * time.Hour / time.Millisecond)

// hoursAgo is the full minute that many hours ago, in milliseconds.
func hoursAgo(h float64) int64 {
	return time.Now().Add(-time.Duration(h * float64(time.Hour))).Truncate(time.Minute).UnixMilli()
}

// fill appends a sample a minute to n series, and compacts.
func fill(t testing.TB, s *store.Store, n int, from, to int64) {
	t.Helper()
	for at := from; at < to; at += 60_000 {
		var b model.Batch
		for i := range n {
			b = append(b, model.Sample{Labels: series("m", i), T: at, V: float64(at) + float64(i)})
		}
		require.NoError(t, s.Append(context.Background(), b))
	}
}

// download copies a block to where it can be imported.
func download(t testing.TB, to *store.Store, b model.Block) string {
	t.Helper()
	in, err := to.Incoming()
	require.NoError(t, err)
	dir := filepath.Join(in, b.ID)
	for _, f := range b.Files {
		require.True(t, store.BlockFileName(f.Name), f.Name)
		p := filepath.Join(dir, filepath.FromSlash(f.Name))
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o750))
		w, err := os.Create(p)
		require.NoError(t, err)
		n, err := io.Copy(w, f.R)
		require.NoError(t, err)
		require.Equal(t, f.Size, n)
		require.NoError(t, w.Close())
	}
	return dir
}

// copyBlocks imports all blocks of from into to.
func copyBlocks(t testing.TB, from, to *store.Store) (n int) {
	t.Helper()
	blocks, err := from.Blocks()
	require.NoError(t, err)
	for _, b := range blocks {
		open, err := from.OpenBlock(b.ID)
		require.NoError(t, err)
		ok, err := to.Import(context.Background(), download(t, to, open), b)
		require.NoError(t, err)
		require.NoError(t, open.Close())
		if ok {
			n++
		}
	}
	require.NoError(t, to.Reload(context.Background()))
	return n
}

func digest(t testing.TB, s *store.Store, r model.SampleRange) []model.Digest {
	t.Helper()
	d, err := s.Digest(context.Background(), r)
	require.NoError(t, err)
	return d
}

func all(from, to int64) model.SampleRange { return model.SampleRange{From: from, To: to, Shards: 4} }

// repair gives to what from has in r.
func repair(t testing.TB, from, to *store.Store, r model.SampleRange) model.SampleRepair {
	t.Helper()
	res, err := to.Repair(context.Background(), r, raw(t, from, r), nil)
	require.NoError(t, err)
	return res
}

func raw(t testing.TB, from *store.Store, r model.SampleRange) func() ([]byte, error) {
	t.Helper()
	var messages [][]byte
	require.NoError(t, from.ReadRaw(context.Background(), r, func(b []byte) error {
		messages = append(messages, append([]byte(nil), b...))
		return nil
	}))
	return func() ([]byte, error) {
		if len(messages) == 0 {
			return nil, io.EOF
		}
		b := messages[0]
		messages = messages[1:]
		return b, nil
	}
}

func TestBlocksAreCopied(t *testing.T) {
	a := storetest.New(t, store.Config{})
	dir := t.TempDir()
	b, stop := storetest.Start(t, store.Config{Dir: dir}, store.Deps{})
	from, to := hoursAgo(9), hoursAgo(0)
	fill(t, a, 5, from, to)
	require.NoError(t, a.Compact(context.Background()))
	fill(t, b, 5, hoursAgo(0.1), to) // live data flow already
	own := hoursAgo(4)               // b has something of its own where the blocks will lie
	require.NoError(t, appendOne(b, series("own", 1), time.UnixMilli(own), 7))

	n := copyBlocks(t, a, b)
	require.GreaterOrEqual(t, n, 3)
	require.Zero(t, copyBlocks(t, a, b), "what is there already is not taken again")

	recent, done, err := a.Recent(context.Background(), 0, math.MaxInt64)
	require.NoError(t, err)
	require.NotEmpty(t, recent)
	for _, r := range recent {
		ok, err := b.Import(context.Background(), download(t, b, r), r)
		require.NoError(t, err)
		require.True(t, ok)
	}
	done()
	require.NoError(t, b.Reload(context.Background()))
	require.Equal(t, read(t, a, "m"), read(t, b, "m"))

	stop() // what was written here only must survive although foreign blocks cover its time
	b, stop = storetest.Start(t, store.Config{Dir: dir}, store.Deps{})
	defer stop()
	require.Equal(t, read(t, a, "m"), read(t, b, "m"))
	require.Equal(t, []float64{7}, read(t, b, "own")[series("own", 1).String()])
	require.NoError(t, b.Compact(context.Background()))
	require.Equal(t, read(t, a, "m"), read(t, b, "m"))
	require.Equal(t, []float64{7}, read(t, b, "own")[series("own", 1).String()])
	left, err := os.ReadDir(filepath.Join(dir, "incoming"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// A foreign block ends later than our own log begins. The log must be replayed
// all the same.
func TestImportKeepsTheLog(t *testing.T) {
	a, c, dir := storetest.New(t, store.Config{}), storetest.New(t, store.Config{}), t.TempDir()
	from := hoursAgo(8)
	for _, s := range []*store.Store{a, c} {
		fill(t, s, 2, from, hoursAgo(0))
		require.NoError(t, s.Compact(context.Background()))
	}
	b, stop := storetest.Start(t, store.Config{Dir: dir}, store.Deps{})
	for i := range 30 { // in order, in memory and in the log only
		require.NoError(t, appendOne(b, series("own", 1), time.UnixMilli(from+int64(i)*60_000), float64(i)))
	}
	require.NotZero(t, copyBlocks(t, a, b))
	require.NotZero(t, copyBlocks(t, c, b)) // they overlap, and would be merged
	require.NoError(t, b.Compact(context.Background()))
	require.NoError(t, b.Compact(context.Background()))
	stop()
	b, stop = storetest.Start(t, store.Config{Dir: dir}, store.Deps{})
	defer stop()
	require.Len(t, read(t, b, "own")[series("own", 1).String()], 30)
}

func TestDamagedBlockIsNotImported(t *testing.T) {
	a := storetest.New(t, store.Config{})
	b := storetest.New(t, store.Config{})
	fill(t, a, 3, hoursAgo(8), hoursAgo(0))
	require.NoError(t, a.Compact(context.Background()))
	blocks, err := a.Blocks()
	require.NoError(t, err)
	require.NotEmpty(t, blocks)
	want := blocks[0]
	for _, name := range []string{"index", "chunks/000001", "meta.json"} {
		open, err := a.OpenBlock(want.ID)
		require.NoError(t, err)
		dir := download(t, b, open)
		require.NoError(t, open.Close())
		p := filepath.Join(dir, filepath.FromSlash(name))
		good, err := os.ReadFile(p)
		require.NoError(t, err)
		found := 0
		for at := 0; at < len(good); at += 1 + len(good)/60 {
			bad := append([]byte(nil), good...)
			bad[at] ^= 0x10
			require.NoError(t, os.WriteFile(p, bad, 0o600))
			ok, err := b.Import(context.Background(), dir, want)
			if err == nil {
				// Padding, and fields of the description that are written anew,
				// carry no samples: what was taken must be whole.
				require.True(t, ok)
				require.NoError(t, b.Reload(context.Background()))
				r := all(want.MinTime, want.MaxTime)
				require.Equal(t, digest(t, a, r), digest(t, b, r), "%s at %d", name, at)
				break
			}
			require.ErrorIs(t, err, store.ErrDamagedBlock, "%s at %d", name, at)
			found++
		}
		require.NotZero(t, found, name)
		if _, err := os.Stat(dir); err == nil {
			require.NoError(t, os.RemoveAll(dir))
		} else {
			b = storetest.New(t, store.Config{})
		}
	}
	require.Empty(t, read(t, b, "m"))
	_, err = a.OpenBlock("../../etc")
	require.ErrorIs(t, err, model.ErrNotFound)
	_, err = a.OpenBlock("01ARZ3NDEKTSV4RRFFQ69G5FAV")
	require.ErrorIs(t, err, model.ErrNotFound)
}

func TestBlockIsReadableAfterItsDeletion(t *testing.T) {
	a, b := storetest.New(t, store.Config{}), storetest.New(t, store.Config{})
	fill(t, a, 2, hoursAgo(9), hoursAgo(0))
	require.NoError(t, a.Compact(context.Background()))
	blocks, err := a.Blocks()
	require.NoError(t, err)
	open, err := a.OpenBlock(blocks[0].ID)
	require.NoError(t, err)
	before := digest(t, a, all(blocks[0].MinTime, blocks[0].MaxTime))
	require.NoError(t, a.Retire(context.Background(), blocks[0].ID))
	_, err = a.OpenBlock(blocks[0].ID)
	require.ErrorIs(t, err, model.ErrNotFound)
	ok, err := b.Import(context.Background(), download(t, b, open), blocks[0])
	require.NoError(t, err)
	require.NoError(t, open.Close())
	require.True(t, ok)
	require.NoError(t, b.Reload(context.Background()))
	require.Equal(t, before, digest(t, b, all(blocks[0].MinTime, blocks[0].MaxTime)))
}

func TestDigestIsBoundedAndCancelled(t *testing.T) {
	s := storetest.New(t, store.Config{})
	_, err := s.Digest(context.Background(), model.SampleRange{From: 5, To: 5, Shards: 1 << 20})
	var inv model.Invalid
	require.ErrorAs(t, err, &inv)
	require.Len(t, inv, 2)
	fill(t, s, 300, hoursAgo(1), hoursAgo(0))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = s.Digest(ctx, all(0, hoursAgo(-1)))
	require.ErrorIs(t, err, context.Canceled)
	d := digest(t, s, model.SampleRange{From: 0, To: hoursAgo(-1), Shards: 4, Which: []int{2}})
	require.NotZero(t, d[2].Samples)
	require.Zero(t, d[1].Samples)
}
