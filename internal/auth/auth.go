// Package auth knows who people and programs are: users with passwords and
// one-time codes, their sessions, and API keys.
package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
)

// Catalog is what auth needs of the records. Specs arrive with clear secrets.
type Catalog interface {
	Get(kind, idOrName string) (model.Record, error)
	List(kind string) []model.Record
	Create(ctx context.Context, actor, kind string, spec json.RawMessage) (model.Record, error)
	Patch(ctx context.Context, actor, kind, idOrName string, patch json.RawMessage, ifRevision int64) (model.Record, error)
	// Generation rises with every change of any record.
	Generation() int64
}

// Config says where sessions are kept, how long they last, and how the first
// administrator comes to be.
type Config struct {
	DataDir       string        // holds "sessions" and "initial-admin-password"
	AdminPassword string        // of the first administrator; generated when empty
	APIKey        string        // an administrator's key that Bootstrap keeps in the catalog; none when empty
	SessionIdle   time.Duration // a session unused for so long ends; 7 days when 0
	SessionMax    time.Duration // a session ends after so long in any case; 30 days when 0
}

// Deps are the collaborators of New. Only Catalog is needed.
type Deps struct {
	Catalog    Catalog
	Sessions   SessionStore                       // nil keeps sessions in <DataDir>/sessions
	Broadcast  func([]byte)                       // tells the other servers of a change of sessions, for their Merge, by a way that only servers can take; must not block; nil for one server
	Audit      func(context.Context, model.Event) // nil drops them
	Out        io.Writer                          // where a generated password is printed once; nil prints nowhere
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Auth authenticates requests. Its methods may be called by many goroutines.
type Auth struct {
	cfg   Config
	cat   Catalog
	audit func(context.Context, model.Event)
	out   io.Writer
	log   *slog.Logger

	store   SessionStore
	limits  *limiter
	basic   *basicCache
	codes   usedCodes
	hashing chan struct{} // bounds the memory that hashing takes at once
	logins  *prometheus.CounterVec

	mu       sync.Mutex
	sessions map[string]*Session  // guarded by mu; by hash of the token
	ended    map[string]time.Time // guarded by mu; by hash: sessions that were ended before their time

	broadcast func([]byte)

	keyMu      sync.Mutex
	keyGen     int64             // guarded by keyMu; generation of the catalog that keys shows
	keys       map[string]apiKey // guarded by keyMu; by hash
	initialGen int64             // guarded by keyMu; see forgetInitial
}

// New reads the sessions. It starts nothing.
func New(cfg Config, deps Deps) (*Auth, error) {
	if deps.Catalog == nil {
		return nil, errors.New("auth: Deps.Catalog is needed")
	}
	if cfg.SessionIdle == 0 {
		cfg.SessionIdle = 7 * 24 * time.Hour
	}
	if cfg.SessionMax == 0 {
		cfg.SessionMax = 30 * 24 * time.Hour
	}
	a := &Auth{
		cfg: cfg, cat: deps.Catalog, audit: deps.Audit, out: deps.Out, log: deps.Logger, store: deps.Sessions,
		limits: newLimiter(), basic: newBasicCache(), hashing: make(chan struct{}, 4),
		sessions: map[string]*Session{}, ended: map[string]time.Time{}, broadcast: deps.Broadcast, keyGen: -1, initialGen: -1,
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "panoptes_auth_logins_total", Help: "Attempts to log in, by result (ok, wrong, limited).",
		}, []string{"result"}),
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.audit == nil {
		a.audit = func(context.Context, model.Event) {}
	}
	if a.out == nil {
		a.out = io.Discard
	}
	if deps.Registerer != nil {
		if err := deps.Registerer.Register(a.logins); err != nil {
			return nil, fmt.Errorf("register metrics of auth: %w", err)
		}
	}
	if a.store == nil {
		if cfg.DataDir == "" {
			return nil, errors.New("auth: Config.DataDir is needed")
		}
		a.store = NewFileStore(filepath.Join(cfg.DataDir, "sessions"))
	}
	if err := a.loadSessions(); err != nil {
		return nil, err
	}
	return a, nil
}

// Run ends sessions that have run out, until ctx ends.
func (a *Auth) Run(ctx context.Context) error {
	t := time.NewTicker(10 * time.Minute)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return a.store.Close()
		case <-t.C:
			a.expireSessions(time.Now())
			a.limits.prune(time.Now())
			a.forgetInitial()
		}
	}
}

// Authenticate says who sent r: a key ("Bearer KEY", or as the password of
// basic authentication), a user by basic authentication, or a session's
// cookie. No credentials, or a cookie whose session has ended, are nobody:
// nil without an error. Wrong credentials are model.ErrUnauthorized. The
// address counts for limits.
func (a *Auth) Authenticate(r *http.Request, address string) (*model.Identity, error) {
	if h := r.Header.Get("Authorization"); h != "" {
		return a.authorization(r.Context(), h, address, r)
	}
	c, err := r.Cookie(model.SessionCookie)
	if err != nil {
		return nil, nil
	}
	return a.session(c.Value), nil
}

func (a *Auth) authorization(ctx context.Context, header, address string, r *http.Request) (*model.Identity, error) {
	if key, ok := bearer(header); ok {
		return a.key(key)
	}
	name, password, ok := r.BasicAuth()
	if !ok {
		return nil, fmt.Errorf("%w: the header Authorization must be \"Bearer KEY\" or basic authentication", model.ErrUnauthorized)
	}
	if isKey(password) {
		return a.key(password)
	}
	return a.basicAuth(ctx, name, password, address)
}

// userByID returns the record of a user who may log in.
func (a *Auth) user(idOrName string) (model.Record, model.User, error) {
	rec, err := a.cat.Get(model.KindUser, idOrName)
	if err != nil {
		return rec, model.User{}, err
	}
	var u model.User
	err = json.Unmarshal(rec.Spec, &u)
	if err == nil {
		_, err = model.Bound(u.Matchers) // in doubt nothing is open
	}
	if err != nil {
		return rec, u, fmt.Errorf("read user %s: %w", rec.ID, err)
	}
	return rec, u, nil
}

// identity is that of a user which user has returned.
func identity(rec model.Record, u model.User) model.Identity {
	id := model.Identity{UserID: rec.ID, Name: u.Name, DisplayName: u.DisplayName, Role: u.Role, Language: u.Language}
	id.Bound, _ = model.Bound(u.Matchers) // was looked at by user
	return id
}

// event sends an audit event about the sessions of a user.
func (a *Auth) event(ctx context.Context, code, name, actor, severity, message, address string) {
	now := time.Now()
	a.audit(ctx, model.Event{
		ID: newEventID(now), Time: now.UTC(), Kind: model.EventAudit, Subject: "session/" + clip(name, 128), Name: clip(name, 128),
		Severity: severity, Actor: actor, Code: code, Message: message, Labels: map[string]string{"address": address},
	})
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
