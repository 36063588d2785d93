package update

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
	"panoptes/internal/wire/manifest"
	"panoptes/internal/wire/uplink"
)

// Config says what an agent believes and where it puts it. The zero value of a
// field means its default.
type Config struct {
	Dir      string            // below the data directory
	Key      ed25519.PublicKey // that signs programs
	Version  string            // of this program
	Platform manifest.Platform // of this program
	Trial    time.Duration     // that a new program has to be acknowledged; default 60 s
	Rate     int               // bytes a second of a download; default 2 MB
	MinFree  int64             // bytes that stay free on the disk; default 64 MiB
	Retry    time.Duration     // after what may pass, at first; default 30 s, it grows
}

func (c Config) withDefaults() Config {
	def := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.Trial, time.Minute)
	def(&c.Retry, 30*time.Second)
	if c.Rate == 0 {
		c.Rate = 2_000_000
	}
	if c.MinFree == 0 {
		c.MinFree = 64 << 20
	}
	return c
}

// Deps are the collaborators. Servers is required.
type Deps struct {
	// Servers are the ways to servers, the one that is talked to first.
	Servers func() []wire.Conn
	// Changed is called with each new state; it must not block.
	Changed func(uplink.UpdateState)
	// Acknowledged reports whether a server has taken what this process measured.
	Acknowledged func() bool
	// Free tells what is left on the disk of a directory.
	Free   func(dir string) (int64, error)
	Logger *slog.Logger
}

// Updater brings what is wanted and says when the process should begin anew.
type Updater struct {
	cfg   Config
	deps  Deps
	trial bool // this process is on trial: it does not look for others

	wanted chan struct{}
	ready  chan struct{}

	mu     sync.Mutex // guards what follows
	want   uplink.UpdateWanted
	status uplink.UpdateState
}

// ErrReady says that a new program is there: the process should end its work
// and ask the Launcher what to do.
var ErrReady = errors.New("a new program is there")

// New makes the updater of this process.
func New(cfg Config, deps Deps) (*Updater, error) {
	if cfg.Dir == "" || len(cfg.Key) != ed25519.PublicKeySize {
		return nil, model.Invalid{{Field: "update.key", Msg: "must be the public key that 'panoptes agent keygen' printed"}}
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Changed == nil {
		deps.Changed = func(uplink.UpdateState) {}
	}
	if deps.Acknowledged == nil {
		deps.Acknowledged = func() bool { return false }
	}
	if deps.Free == nil {
		deps.Free = free
	}
	u := &Updater{cfg: cfg.withDefaults(), deps: deps, wanted: make(chan struct{}, 1), ready: make(chan struct{}), status: uplink.UpdateState{State: uplink.UpdateIdle}}
	if want := os.Getenv(envTrial); want != "" {
		if want != cfg.Version {
			return nil, fmt.Errorf("%w: this program is version %s, it was signed as %s", model.ErrConflict, cfg.Version, want)
		}
		u.trial = true
	}
	st := u.load()
	switch {
	case u.trial:
		u.status = uplink.UpdateState{State: uplink.UpdateTrying, Version: cfg.Version}
		if st.Trial != nil {
			u.status.Rollout = st.Trial.Rollout
		}
	case st.Failed != nil:
		u.status = st.Failed.status()
	}
	return u, nil
}

func (u *Updater) load() state {
	s, err := load(u.cfg.Dir)
	if err != nil {
		u.deps.Logger.Warn("state of updates not read; it begins anew", "err", err)
	}
	return s
}

// Status is what the servers are told.
func (u *Updater) Status() *uplink.UpdateState {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.status
	return &s
}

// Want takes what a server says; nil: nothing is wanted.
func (u *Updater) Want(w *uplink.UpdateWanted) {
	var v uplink.UpdateWanted
	if w != nil {
		v = *w
	}
	u.mu.Lock()
	same := u.want == v
	u.want = v
	u.mu.Unlock()
	if !same {
		select {
		case u.wanted <- struct{}{}:
		default:
		}
	}
}

// Ready is closed when a new program is there.
func (u *Updater) Ready() <-chan struct{} { return u.ready }

// Leaving reports whether this process ends only for another one to go on.
func (u *Updater) Leaving() bool {
	select {
	case <-u.ready:
		return true
	default:
		return u.trial
	}
}

func (u *Updater) set(s uplink.UpdateState) {
	s.At = time.Now().UTC()
	s.Error = clip(s.Error)
	u.mu.Lock()
	u.status = s
	u.mu.Unlock()
	u.deps.Changed(s)
}

// Run works until ctx ends.
func (u *Updater) Run(ctx context.Context) error {
	if u.trial {
		u.confirm(ctx)
		<-ctx.Done()
		return nil
	}
	settled := make(chan struct{})
	go func() { defer close(settled); u.settle(ctx) }()
	u.follow(ctx)
	<-settled
	return nil
}

// confirm says once that this program works, to the one that tries it.
func (u *Updater) confirm(ctx context.Context) {
	if !u.untilAcknowledged(ctx) {
		return
	}
	if err := writeFile(filepath.Join(u.cfg.Dir, markFile), []byte(u.cfg.Version)); err != nil {
		u.deps.Logger.Error("the new program works and cannot say so", "err", err)
	}
}

// settle notes that the program in use works, so that its starts are not counted
// against it.
func (u *Updater) settle(ctx context.Context) {
	if !u.untilAcknowledged(ctx) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock() // follow writes the file too
	st := u.load()
	if st.Active != u.cfg.Version || st.Starts == 0 {
		return
	}
	st.Starts = 0
	if err := st.save(u.cfg.Dir); err != nil {
		u.deps.Logger.Warn("state of updates not kept", "err", err)
	}
}

func (u *Updater) untilAcknowledged(ctx context.Context) bool {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for !u.deps.Acknowledged() {
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
		}
	}
	return true
}

// follow brings what is wanted until it is there.
func (u *Updater) follow(ctx context.Context) {
	wait := u.cfg.Retry
	for {
		next := time.Hour
		if want, due := u.due(); due {
			if u.attempt(ctx, want) {
				close(u.ready)
				<-ctx.Done()
				return
			}
			if u.Status().State == uplink.UpdateWaiting {
				next, wait = wait, min(2*wait, 20*u.cfg.Retry)
			}
		}
		t := time.NewTimer(next)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-u.wanted:
			t.Stop()
			wait = u.cfg.Retry
		case <-t.C:
		}
	}
}

// due reports whether there is something to bring: what failed once is not
// tried again in the same rollout.
func (u *Updater) due() (uplink.UpdateWanted, bool) {
	u.mu.Lock()
	want, s := u.want, u.status
	u.mu.Unlock()
	switch {
	case want.Version == "" || want.Version == u.cfg.Version:
		if s.State != uplink.UpdateIdle && s.State != uplink.UpdateFailed {
			u.set(uplink.UpdateState{State: uplink.UpdateIdle})
		}
		return want, false
	case s.State == uplink.UpdateFailed && s.Version == want.Version && s.Rollout == want.Rollout:
		return want, false
	}
	return want, true
}

// attempt brings one version, and notes that it is to be tried.
func (u *Updater) attempt(ctx context.Context, want uplink.UpdateWanted) bool {
	about := uplink.UpdateState{State: uplink.UpdateFetching, Version: want.Version, Rollout: want.Rollout}
	u.set(about)
	u.deps.Logger.Info("another version is wanted", "version", want.Version, "this", u.cfg.Version)
	err := u.fetch(ctx, want)
	if err == nil {
		u.mu.Lock()
		st := u.load()
		st.Trial = &trial{Version: want.Version, Rollout: want.Rollout}
		err = st.save(u.cfg.Dir)
		u.mu.Unlock()
	}
	if ctx.Err() != nil {
		return false
	}
	var r refusal
	switch {
	case err == nil:
		about.State = uplink.UpdateReady
		u.set(about)
		return true
	case errors.As(err, &r):
		about.State, about.Error = uplink.UpdateFailed, err.Error()
		u.deps.Logger.Error("the new version is refused", "version", want.Version, "err", err)
		u.set(about)
		u.remember(want, err)
	default:
		about.State, about.Error = uplink.UpdateWaiting, err.Error()
		u.deps.Logger.Warn("the new version is not here yet; it is tried again", "version", want.Version, "err", err)
		u.set(about)
	}
	return false
}

// remember keeps that an update was refused, so that it is not fetched again at
// each start.
func (u *Updater) remember(want uplink.UpdateWanted, cause error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	st := u.load()
	st.Failed = &failed{Version: want.Version, Rollout: want.Rollout, Error: clip(cause.Error()), At: time.Now().UTC()}
	if err := st.save(u.cfg.Dir); err != nil {
		u.deps.Logger.Warn("state of updates not kept", "err", err)
	}
}
