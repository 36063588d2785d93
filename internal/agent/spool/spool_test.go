package spool_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/agent/spool"
	"panoptes/internal/model"
	"panoptes/internal/wire"
)

var series = func() (out []labels.Labels) {
	for _, n := range []string{"a", "b", "c"} {
		out = append(out, labels.FromStrings("__name__", "node_test", "n", n))
	}
	return out
}()

func batch(t int64) []model.Sample {
	var out []model.Sample
	for i, ls := range series {
		out = append(out, model.Sample{Labels: ls, T: t, V: float64(t) + float64(i)})
	}
	return out
}

func open(t *testing.T, cfg spool.Config, deps spool.Deps) *spool.Spool {
	t.Helper()
	if deps.Now == nil { // the samples of these tests are from the beginning of time
		deps.Now = func() time.Time { return time.UnixMilli(0) }
	}
	s, err := spool.Open(cfg, deps)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// read decodes all there is, as a server does, and returns the times of what is
// new and what is to be acknowledged.
func read(t *testing.T, s *spool.Spool) (times []int64, records []spool.Record) {
	t.Helper()
	dec, err := wire.NewDecoder(wire.Limits{}, nil)
	require.NoError(t, err)
	defer dec.Close()
	for {
		r, err := s.Next()
		if err == io.EOF {
			return times, records
		}
		require.NoError(t, err)
		if r.Start {
			dec.Reset()
		}
		var f wire.Frame
		require.NoError(t, dec.Decode(r.Frame, &f))
		r.Frame = nil
		records = append(records, r)
		if !r.Known {
			for i := 0; i < len(f.Times); i += len(series) {
				times = append(times, f.Times[i])
				require.Equal(t, float64(f.Times[i]), f.Values[i])
			}
		}
	}
}

func fill(t *testing.T, s *spool.Spool, from, to int64) {
	t.Helper()
	for i := from; i <= to; i++ {
		_, err := s.Append(batch(i), nil)
		require.NoError(t, err)
	}
}

func span(from, to int64) (out []int64) {
	for i := from; i <= to; i++ {
		out = append(out, i)
	}
	return out
}

func TestWhatWasSyncedIsThereAfterACrash(t *testing.T) {
	dir := t.TempDir()
	cfg := spool.Config{Dir: dir, SegmentBytes: 4 << 10}
	s := open(t, cfg, spool.Deps{})
	fill(t, s, 1, 500)
	require.NoError(t, s.Sync())
	got, records := read(t, s)
	require.Equal(t, span(1, 500), got)
	for _, r := range records[:200] {
		s.Ack(r)
	}
	require.NoError(t, s.Sync())
	require.EqualValues(t, 300*3, s.Stats().Waiting)

	// The process is killed: nothing is closed. What was acknowledged is not sent again.
	again := open(t, cfg, spool.Deps{})
	require.EqualValues(t, 300*3, again.Stats().Waiting)
	got, records = read(t, again)
	require.Equal(t, span(201, 500), got)
	fill(t, again, 501, 510)
	got, more := read(t, again)
	require.Equal(t, span(501, 510), got)
	for _, r := range append(records, more...) {
		again.Ack(r)
	}
	require.Zero(t, again.Stats().Segments, "what the servers have does not stay on disk")
	require.Zero(t, again.Stats().Dropped)
}

func TestWhatAPowerCutToreIsCutOff(t *testing.T) {
	dir := t.TempDir()
	cfg := spool.Config{Dir: dir, SegmentBytes: 4 << 10}
	s := open(t, cfg, spool.Deps{})
	fill(t, s, 1, 400)
	require.NoError(t, s.Close())
	files, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	require.NoError(t, err)
	require.Greater(t, len(files), 2)

	// The last file is torn within a record; in the first one a byte is another.
	last := files[len(files)-1]
	st, err := os.Stat(last)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(last, st.Size()-5))
	b, err := os.ReadFile(files[0])
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(files[0], b, 0o600))

	again := open(t, cfg, spool.Deps{})
	got, _ := read(t, again)
	require.Equal(t, int64(1), got[0])
	require.Equal(t, int64(399), got[len(got)-1], "only the torn record is gone")
	gaps := 0
	for i := 1; i < len(got); i++ {
		if got[i] != got[i-1]+1 {
			gaps++
		}
	}
	require.Equal(t, 1, gaps, "the damaged file is left at the damage, the next ones are whole")
}

func TestTheOldestGoesFirstAndIsCounted(t *testing.T) {
	now := time.UnixMilli(1)
	cfg := spool.Config{Dir: t.TempDir(), SegmentBytes: 4 << 10, MaxBytes: 20 << 10, MaxAge: time.Hour}
	s := open(t, cfg, spool.Deps{Now: func() time.Time { return now }})
	fill(t, s, 1, 3000)
	st := s.Stats()
	require.LessOrEqual(t, st.Bytes, int64(20<<10))
	require.EqualValues(t, 3000*3, st.Dropped+uint64(st.Waiting), "each sample is there or counted")
	got, _ := read(t, s)
	require.Equal(t, span(3000-st.Waiting/3+1, 3000), got)

	now = now.Add(2 * time.Hour)
	_, err := s.Append(batch(now.UnixMilli()), nil)
	require.NoError(t, err)
	_, err = s.Append(batch(now.UnixMilli()), nil)
	require.NoError(t, err)
	require.Less(t, s.Stats().Bytes, int64(9<<10), "what is too old goes")
}

// A disk of a certain size, part of which others use.
type disk struct {
	dir    string
	others int64
}

func (d *disk) free(string) (int64, error) {
	files, err := filepath.Glob(filepath.Join(d.dir, "*.seg"))
	n := int64(1<<30) - d.others
	for _, f := range files {
		n -= size(f)
	}
	return n, err
}

func TestAFullDiskCostsTheOldest(t *testing.T) {
	d := &disk{dir: t.TempDir()}
	cfg := spool.Config{Dir: d.dir, SegmentBytes: 4 << 10}
	s := open(t, cfg, spool.Deps{Free: d.free})
	fill(t, s, 1, 2000)
	before := s.Stats()
	require.Greater(t, before.Segments, 5)
	require.Zero(t, before.Dropped)

	// Others use all but what three segments make up for.
	d.others = 1<<30 - 64<<20 - before.Bytes + 10<<10
	fill(t, s, 2001, 2400)
	st := s.Stats()
	require.NotZero(t, st.Dropped)
	require.EqualValues(t, 2400*3, st.Dropped+uint64(st.Waiting), "each sample is there or counted")
	n, err := d.free("")
	require.NoError(t, err)
	require.Greater(t, n, int64(64<<20-8<<10), "not more than one segment beyond the limit")
	require.Greater(t, st.Bytes, before.Bytes-20<<10, "no more is dropped than others need")
	got, _ := read(t, s)
	require.Equal(t, span(2400-st.Waiting/3+1, 2400), got)
}

func TestAFullDiskThatTheBufferCannotHelpCostsNothing(t *testing.T) {
	d := &disk{dir: t.TempDir()}
	cfg := spool.Config{Dir: d.dir, SegmentBytes: 4 << 10}
	s := open(t, cfg, spool.Deps{Free: d.free})
	fill(t, s, 1, 2000)
	d.others = 1<<30 - 1<<20
	append := func(s *spool.Spool) {
		var err error
		for i := int64(2001); err == nil && i < 4000; i++ {
			_, err = s.Append(batch(i), nil)
		}
		require.ErrorIs(t, err, model.ErrNoSpace)
		for range 3 {
			_, err = s.Append(batch(5000), nil)
			require.ErrorIs(t, err, model.ErrNoSpace)
		}
		require.Zero(t, s.Stats().Dropped)
		require.GreaterOrEqual(t, s.Stats().Waiting, int64(2000*3))
	}
	append(s)
	require.NoError(t, s.Close())
	s = open(t, cfg, spool.Deps{Free: d.free}) // nor does another start
	append(s)
	d.others = 0
	fill(t, s, 6000, 6010)
	got, _ := read(t, s)
	require.Equal(t, span(1, 2000), got[:2000])
	require.Equal(t, span(6000, 6010), got[len(got)-11:])
}

func TestAFailedSyncIsNotBelieved(t *testing.T) {
	fail := true
	cfg := spool.Config{Dir: t.TempDir()}
	s := open(t, cfg, spool.Deps{Sync: func(f *os.File) error {
		if fail {
			return errors.New("input/output error")
		}
		return f.Sync()
	}})
	fill(t, s, 1, 10)
	require.ErrorContains(t, s.Sync(), "input/output error")
	fail = false
	fill(t, s, 11, 20)
	require.NoError(t, s.Sync())
	require.Equal(t, 2, s.Stats().Segments, "a file whose sync failed is not written to any more")
	got, _ := read(t, s)
	require.Equal(t, span(1, 20), got)
}

func TestWhatIsKnownIsOnlyReadForItsDictionary(t *testing.T) {
	s := open(t, spool.Config{Dir: t.TempDir()}, spool.Deps{})
	var marks []spool.Mark
	for i := int64(1); i <= 4; i++ {
		m, err := s.Append(batch(i), nil)
		require.NoError(t, err)
		marks = append(marks, m)
	}
	s.Forget(marks[0])
	s.Forget(marks[2])
	got, records := read(t, s)
	require.Equal(t, []int64{2, 4}, got)
	s.Ack(records[1])
	s.Rewind()
	got, _ = read(t, s)
	require.Equal(t, []int64{4}, got)
}

// A day at the default interval fits into the budget.
func TestADayFits(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a day")
	}
	s := open(t, spool.Config{Dir: t.TempDir()}, spool.Deps{Now: func() time.Time { return time.UnixMilli(0) }, Sync: func(*os.File) error { return nil }})
	const rounds = 24 * 60 * 4
	h := newHost(500)
	for i := range rounds {
		_, err := s.Append(h.round(int64(i)*15_000), nil)
		require.NoError(t, err)
	}
	st := s.Stats()
	t.Logf("%d samples in %d bytes: %.2f bytes a sample", st.Waiting, st.Bytes, float64(st.Bytes)/float64(st.Waiting))
	require.EqualValues(t, rounds*500, st.Waiting)
	require.Zero(t, st.Dropped)
	require.Less(t, st.Bytes, int64(200e6))
	require.Less(t, float64(st.Bytes)/float64(st.Waiting), 3.0)
}

// FuzzBuffer opens what a disk may have made of a segment.
func FuzzBuffer(f *testing.F) {
	dir := f.TempDir()
	s, err := spool.Open(spool.Config{Dir: dir}, spool.Deps{})
	require.NoError(f, err)
	for i := range int64(3) {
		_, err := s.Append(batch(i+1), nil)
		require.NoError(f, err)
	}
	require.NoError(f, s.Close())
	whole, err := os.ReadFile(filepath.Join(dir, "0000000000000001.seg"))
	require.NoError(f, err)
	f.Add(whole, []byte{})
	f.Add(whole[:len(whole)-3], make([]byte, 20))
	f.Add([]byte("PNPSEG1\n\xff\xff\xff\xff\xff\xff\xff\xff"), []byte("x"))
	f.Fuzz(func(t *testing.T, seg, cursor []byte) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "0000000000000001.seg"), seg, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "cursor"), cursor, 0o600))
		s, err := spool.Open(spool.Config{Dir: dir}, spool.Deps{Sync: func(*os.File) error { return nil }})
		require.NoError(t, err)
		defer s.Close() //nolint:errcheck // only looked at
		for n := 0; ; n++ {
			r, err := s.Next()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			require.Less(t, n, len(seg)+1)
			if n%2 == 0 {
				s.Ack(r)
			}
		}
		_, err = s.Append(batch(99), nil)
		require.NoError(t, err)
		require.NoError(t, s.Sync())
		r, err := s.Next()
		require.NoError(t, err)
		require.True(t, r.Start)
	})
}

// A process that writes and syncs as fast as it can is killed again and again:
// nothing that was synced is missing.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("SPOOL_TEST_DIR"); dir != "" {
		writer(dir)
		return
	}
	dir := t.TempDir()
	for range 5 {
		killed(t, dir)
	}
	s := open(t, spool.Config{Dir: filepath.Join(dir, "spool"), SegmentBytes: 4 << 10}, spool.Deps{})
	b, err := os.ReadFile(filepath.Join(dir, "synced"))
	require.NoError(t, err)
	var last int64
	for _, c := range b {
		if c == '\n' {
			last++
		}
	}
	got, _ := read(t, s)
	require.NotZero(t, last)
	for i := range last {
		require.Equal(t, i+1, got[i])
	}
}
