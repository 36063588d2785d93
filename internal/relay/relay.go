// Package relay brings what this server takes – samples and events – to every
// other server. What a caller gives is stored here, written to a log, and sent;
// the caller is answered when it is on this server's disk and on that of
// another one, if any other is alive. A server that is away keeps its place in
// the log and is fed from there, in order, when it returns.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// Config says where the log is and how much of it is kept. The zero value of a
// field means its default.
type Config struct {
	Dir    string // of the log; made when it is missing
	NodeID string // this server's

	MaxBytes     int64         // the log is cut at the old end beyond it; default 10 GB
	MaxAge       time.Duration // what is older is dropped; default 48 h
	SegmentBytes int64         // size of one file of the log; default 16 MiB
	TailBytes    int64         // newest part of the log that is kept in memory; default 32 MiB
	WindowBytes  int64         // what may be on the way to one server, not acknowledged; default 8 MiB
	MinFreeBytes int64         // nothing is taken when less is free; default 512 MiB; negative: no limit
	FutureLimit  time.Duration // how far ahead of the clock the store takes samples; default 10 min

	// AckTimeout is how long a server that is alive and connected may leave
	// something unacknowledged until it counts as behind: then nobody waits for
	// it until it has caught up. Default 10 s.
	AckTimeout time.Duration
	// ConnectTimeout is how long a server that is said to be alive is waited for
	// while there is no connection to it. Default 3 s.
	ConnectTimeout time.Duration
}

func (c Config) withDefaults() Config {
	set(&c.MaxBytes, 10e9)
	set(&c.MaxAge, 48*time.Hour)
	set(&c.SegmentBytes, 16<<20)
	set(&c.TailBytes, 32<<20)
	set(&c.WindowBytes, 8<<20)
	set(&c.MinFreeBytes, 512<<20)
	set(&c.FutureLimit, 10*time.Minute)
	set(&c.AckTimeout, 10*time.Second)
	set(&c.ConnectTimeout, 3*time.Second)
	return c
}

func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Validate names what is wrong; it returns nil or a model.Invalid.
func (c Config) Validate() error {
	var inv model.Invalid
	if c.Dir == "" {
		inv.Add("dir", "must name a directory")
	}
	if c.NodeID == "" {
		inv.Add("node_id", "must name this server")
	}
	if c.SegmentBytes < 0 || c.SegmentBytes > 1<<30 {
		inv.Add("segment_bytes", "must be at most 1 GiB")
	}
	if c.MaxBytes < c.SegmentBytes {
		inv.Add("max_bytes", "must be at least segment_bytes (%d)", c.SegmentBytes)
	}
	if c.MaxAge < 0 || c.TailBytes < 0 || c.WindowBytes < 0 || c.FutureLimit < 0 || c.AckTimeout < 0 || c.ConnectTimeout < 0 {
		inv.Add("max_age", "and tail_bytes, window_bytes, future_limit, ack_timeout and connect_timeout must not be negative")
	}
	return inv.Err()
}

// Events is where events are stored. Storing one twice changes nothing.
type Events interface {
	Append(ctx context.Context, events ...model.Event) error
}

// Deps are the relay's collaborators.
type Deps struct {
	Store  storage.Appendable // this server's own; Commit makes durable
	Events Events
	// Dial returns the way to a server. It does not wait.
	Dial func(nodeID string) (wire.Conn, error)
	// Missed is told that a source has dropped what was meant for this server:
	// samples and events of that time have to be copied from elsewhere. It must
	// not wait. nil: nobody wants to know.
	Missed func(source string, from, to time.Time)
	// Outside is what is not a server and gets all the same what this one
	// takes, by names that no server has. Each has a place in the log as servers
	// have; nobody waits for it.
	Outside map[string]Outside

	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	// Free tells how many bytes may still be written below dir; nil asks the
	// file system.
	Free func(dir string) (uint64, error)
	// Sync makes a file durable; nil means (*os.File).Sync.
	Sync func(*os.File) error
	// Now is the clock that samples are held against; nil means time.Now.
	Now func() time.Time
}

// Relay is both ends: it sends what its own server took, and receives what
// others took. What was received is not sent on.
type Relay struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	m    *metrics

	journal  *journal
	sources  sources
	appended sync.Pool // *appender
	alone    atomic.Bool

	changed chan struct{} // of size one: destinations are to be looked at
	stopped chan struct{} // closed when Run ends

	mu      sync.Mutex // guards the fields below
	dests   map[string]*destination
	waiting []*group // shown, not safe yet, in order of their ends
	dirty   bool     // cursors have moved since they were saved
	lost    bool     // the cursors could not be read: who is new gets the whole log

	aliveIDs []string // as SetAlive named them

	saving sync.Mutex // held while the cursors are written; guards saved
	saved  position   // end of the log in what was written
}

// New opens the log. It starts nothing.
func New(cfg Config, deps Deps) (*Relay, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Store == nil || deps.Events == nil || deps.Dial == nil {
		return nil, errors.New("relay needs a store, events and a way to dial")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Free == nil {
		deps.Free = freeBytes
	}
	if deps.Sync == nil {
		deps.Sync = (*os.File).Sync
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Missed == nil {
		deps.Missed = func(string, time.Time, time.Time) {}
	}
	r := &Relay{cfg: cfg, deps: deps, log: deps.Logger, dests: map[string]*destination{},
		changed: make(chan struct{}, 1), stopped: make(chan struct{})}
	r.alone.Store(true)
	r.sources.byID = map[string]*source{}
	r.m = newMetrics(deps.Registerer, r)
	if err := r.openLog(); err != nil {
		return nil, fmt.Errorf("open the log of the relay in %s: %w", cfg.Dir, err)
	}
	return r, nil
}

func freeBytes(dir string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

func (r *Relay) openLog() error {
	if err := os.MkdirAll(r.cfg.Dir, 0o700); err != nil {
		return err
	}
	st, err := loadState(r.cfg.Dir)
	lost := errors.Is(err, errDamaged)
	if err != nil && !lost {
		return err
	}
	fresh := st.LogID == ""

	enc, err := wire.NewEncoder()
	if err != nil {
		return err
	}
	j := &journal{cfg: r.cfg, deps: r.deps, log: r.log, m: r.m, logID: st.LogID, show: r.show, hide: r.hide, enc: enc,
		kick: make(chan struct{}, 1), fresh: true,
		dict: dictionary{pages: map[uint64]*page{}, labels: map[string]uint32{}}}
	r.journal = j
	j.index.dir = r.cfg.Dir
	odd, err := r.findSegments(&st)
	if err != nil {
		return err
	}
	r.lost = (fresh || st.Lost) && len(j.index.segments) > 0
	st.Lost = r.lost
	if lost {
		r.log.Error("cursors of the relay are damaged: what is in the log is sent again", "dir", r.cfg.Dir)
		r.m.damaged.Inc()
	}
	if fresh {
		if st.LogID == "" {
			st.LogID = ulid.Make().String()
		}
		if err := st.save(r.cfg.Dir, r.deps.Sync); err != nil {
			return err
		}
	}
	j.logID = st.LogID
	for id, c := range st.Destinations {
		r.dests[id] = newDestination(id, c)
	}
	if err := r.checkNewest(st.Newest); err != nil {
		return err
	}
	r.checkSizes()
	for _, o := range odd {
		r.setAside(o, st.Newest)
	}
	r.addOutside()
	r.alone.Store(len(r.dests) == 0)
	j.index.next = max(j.index.next, st.Next, 1)
	for _, d := range r.dests {
		j.index.next = max(j.index.next, d.acked.segment()+1)
	}
	return nil
}

// Register has srv serve what other servers send.
func (r *Relay) Register(srv *wire.Server) {
	srv.HandleStream(pushMethod, []model.NodeRole{model.RoleServer}, r.receive)
}

const pushMethod = "relay.push"

// Run writes the log, sends, and saves the cursors until ctx ends.
func (r *Relay) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	// The log takes what comes until the senders have ended.
	lctx, endLog := context.WithCancel(context.WithoutCancel(ctx))
	defer endLog()
	wg.Go(func() { r.journal.run(lctx) })
	wg.Go(func() { r.checkOld(ctx) })
	senders := newSenders(r)
	defer func() {
		senders.stop()
		close(r.stopped)
		if err := r.saveCursors(); err != nil {
			r.log.Warn("cursors not saved", "err", err)
		}
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	save := time.NewTicker(time.Second)
	defer save.Stop()
	for {
		senders.match(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-r.changed:
		case <-tick.C:
			r.review(time.Now())
		case <-save.C:
			if err := r.saveCursors(); err != nil {
				r.log.Warn("cursors not saved", "err", err)
			}
			r.trim(time.Now())
		}
	}
}

func (r *Relay) poke() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}
