package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// journal is the log of what this server has to bring to others. Callers stage
// what they have; one goroutine writes what was staged meanwhile as one group,
// shows it to the senders, and syncs it.
type journal struct {
	cfg   Config
	deps  Deps
	log   *slog.Logger
	m     *metrics
	logID string
	show  func(g *group) // what is in the log now may be sent
	hide  func(g *group) // it was shown, and is lost

	kick chan struct{}

	mu      sync.Mutex // guards the fields below
	running bool
	refuse  error // why nothing is taken at the moment
	frames  []*wire.Frame
	spare   []*wire.Frame
	filled  int // bytes in the last frame, about, beside its samples
	group   *group
	fresh   bool // what is staged is the beginning of a segment
	full    bool // the open segment is large enough
	dict    dictionary

	// The goroutine that writes owns these.
	file    *os.File
	open    *segment
	enc     *wire.Encoder
	synced  int64
	started int64 // bytes of the open segment that describe series, at most
	spaceAt time.Time

	index index
}

// group is what is written and synced together.
type group struct {
	end    position      // behind it; known once it is shown
	shown  time.Time     // when that was
	synced chan struct{} // closed when it is on the disk, or err is set
	err    error
	safe   chan struct{} // closed when enough servers have it
}

const (
	frameSamples = 16 << 10 // samples of one record
	frameBytes   = 1 << 20  // and about how large other things in it may be
	spaceEvery   = 250 * time.Millisecond
)

var errStopped = fmt.Errorf("the relay is not running: %w", model.ErrUnavailable)

// accepting returns why nothing can be staged at the moment.
func (j *journal) accepting() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.acceptingLocked()
}

func (j *journal) acceptingLocked() error {
	if !j.running {
		return errStopped
	}
	return j.refuse
}

// stage takes what fill puts into frames. It is written and synced soon.
func (j *journal) stage(fill func(*stager)) (*group, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.acceptingLocked(); err != nil {
		return nil, err
	}
	fill(&stager{j: j})
	if j.group == nil {
		j.group = &group{synced: make(chan struct{}), safe: make(chan struct{})}
	}
	select {
	case j.kick <- struct{}{}:
	default:
	}
	return j.group, nil
}

// stager puts things into frames while the journal is locked.
type stager struct{ j *journal }

// frame returns the frame to add to, which has room for size bytes.
func (s *stager) frame(size int) *wire.Frame {
	j := s.j
	if n := len(j.frames); n > 0 {
		f := j.frames[n-1]
		if len(f.IDs) < frameSamples && j.filled+size <= frameBytes {
			j.filled += size
			return f
		}
	}
	j.filled = size
	f := &wire.Frame{}
	if n := len(j.spare); n > 0 {
		f, j.spare = j.spare[n-1], j.spare[:n-1]
	}
	j.frames = append(j.frames, f)
	return f
}

// run writes what is staged until ctx ends.
func (j *journal) run(ctx context.Context) {
	j.mu.Lock()
	j.running = true
	j.mu.Unlock()
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	for {
		select {
		case <-j.kick:
			j.write()
		case <-tick.C:
			j.checkSpace()
		case <-ctx.Done():
			j.mu.Lock()
			j.running = false
			j.mu.Unlock()
			j.write()
			j.closeFile()
			return
		}
	}
}

// take removes what is staged. When the open segment is large enough, what is
// staged from here on begins a new one.
func (j *journal) take() (frames []*wire.Frame, g *group, fresh bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	frames, g, fresh = j.frames, j.group, j.fresh
	if g == nil {
		return nil, nil, false
	}
	j.frames, j.group, j.fresh = nil, nil, false
	if j.full && !fresh {
		j.fresh = true
		j.dict.reset()
	}
	j.full = false
	return frames, g, fresh
}

// seal has the next group begin a segment.
func (j *journal) seal() {
	j.mu.Lock()
	j.full = true
	j.mu.Unlock()
}

func (j *journal) write() {
	frames, g, fresh := j.take()
	if g == nil {
		return
	}
	if err := j.writeGroup(frames, g, fresh); err != nil {
		j.fail(g, err)
		return
	}
	close(g.synced)
	j.mu.Lock()
	grown := j.open.size >= j.cfg.SegmentBytes && (j.open.size >= 4*j.started || j.open.size >= min(16*j.cfg.SegmentBytes, j.cfg.MaxBytes/8))
	if aged := g.shown.UnixMilli()-j.open.created > j.cfg.MaxAge.Milliseconds()/16; (grown || aged) && !j.fresh {
		j.full = true
	}
	for _, f := range frames {
		if len(j.spare) < 8 && len(f.IDs) <= 2*frameSamples {
			f.Reset()
			j.spare = append(j.spare, f)
		}
	}
	j.mu.Unlock()
	if time.Since(j.spaceAt) > spaceEvery {
		j.checkSpace()
	}
}

func (j *journal) writeGroup(frames []*wire.Frame, g *group, fresh bool) error {
	if fresh || j.file == nil {
		if err := j.begin(); err != nil {
			return err
		}
	}
	now := time.Now()
	written := now.UnixMilli()
	size := 256
	for _, f := range frames {
		size += 64 + 2*len(f.IDs)
	}
	buf := make([]byte, 0, size)
	spans := segment{}
	for _, f := range frames {
		from, to, ok := f.Span()
		if !ok {
			from, to = written, written
		}
		before := len(buf)
		var err error
		buf, err = appendRecord(buf, written, from, to, func(b []byte) ([]byte, error) { return j.enc.Encode(b, f) })
		if err != nil {
			return err
		}
		j.started += min(described(f), int64(len(buf)-before))
		spans.note(written, from, to)
	}
	if _, err := j.file.WriteAt(buf, j.open.size); err != nil {
		return err
	}
	g.shown = now
	g.end = j.index.add(j.open, block{data: buf, written: written, shown: now}, spans, j.cfg.TailBytes)
	j.m.logBytes.Add(float64(len(buf)))
	j.show(g)
	if err := j.deps.Sync(j.file); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	j.m.syncs.Inc()
	j.m.syncTime.Observe(time.Since(now).Seconds())
	j.synced = j.open.size
	j.index.synced(j.open)
	return nil
}

// described is what the new series of a frame take before they are compressed.
func described(f *wire.Frame) (n int64) {
	for _, ls := range f.Series {
		n += int64(ls.ByteSize())
	}
	return n
}

// begin opens the next segment. Its name is on the disk before anything in it
// is sent: its number must not come again.
func (j *journal) begin() error {
	j.closeFile()
	seq, before := j.index.nextNumber()
	now := time.Now()
	path := segmentPath(j.cfg.Dir, seq)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make segment %d: %w", seq, err)
	}
	_, err = f.Write(header{logID: j.logID, seq: seq, created: now.UnixMilli(), previous: before}.encode())
	if err == nil {
		err = j.deps.Sync(f)
	}
	if err == nil {
		err = syncDir(j.cfg.Dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("make segment %d: %w", seq, err), f.Close(), os.Remove(path))
	}
	j.file, j.synced, j.started = f, headerSize, 0
	j.enc.Reset()
	j.open = &segment{seq: seq, before: before, size: headerSize, created: now.UnixMilli(), last: now.UnixMilli(), checked: true}
	j.index.begin(j.open)
	return nil
}

func (j *journal) closeFile() {
	if j.file == nil {
		return
	}
	if err := j.file.Close(); err != nil {
		j.log.Warn("segment not closed cleanly", "segment", j.open.seq, "err", err)
	}
	j.file = nil
	j.index.sealed()
}

// fail gives up the open segment from its last sync on: what comes behind a
// failed write or sync may be gone. Those that wait for it are told, and so
// are those that have built on it.
func (j *journal) fail(g *group, err error) {
	kind := model.ErrUnavailable
	if isFull(err) || !j.hasRoom() {
		kind = model.ErrNoSpace
	}
	err = fmt.Errorf("write the log of the relay: %w (%w)", kind, err)
	j.m.failures.Inc()
	j.log.Error("log not written, its segment is ended", "err", err)
	if j.file != nil {
		j.index.cut(j.open, j.synced)
		if terr := j.file.Truncate(j.synced); terr != nil {
			j.log.Warn("segment not cut", "segment", j.open.seq, "err", terr)
		}
		j.closeFile()
	}
	j.mu.Lock()
	next := j.group
	j.frames, j.group, j.fresh, j.full, j.refuse = nil, nil, true, false, err
	j.dict.reset()
	j.mu.Unlock()
	j.hide(g)
	for _, g := range []*group{g, next} {
		if g != nil {
			g.err = err
			close(g.synced)
		}
	}
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

func (j *journal) hasRoom() bool {
	free, err := j.deps.Free(j.cfg.Dir)
	return err != nil || j.cfg.MinFreeBytes < 0 || free >= uint64(j.cfg.MinFreeBytes)
}

// checkSpace looks at the free space, and lets callers try again after a
// failed write.
func (j *journal) checkSpace() {
	j.spaceAt = time.Now()
	room := j.hasRoom()
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case !room && !errors.Is(j.refuse, model.ErrNoSpace):
		j.refuse = errLowSpace
		j.log.Error("disk nearly full, nothing is taken for the log", "dir", j.cfg.Dir)
	case room && j.refuse != nil:
		j.refuse = nil
		j.log.Info("log takes entries again", "dir", j.cfg.Dir)
	}
}

var errLowSpace = fmt.Errorf("the disk of the relay's log is nearly full: %w", model.ErrNoSpace)
