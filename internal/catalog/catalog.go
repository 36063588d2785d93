// Package catalog keeps the typed records that people decide about – checks,
// receivers, routes, users – in the configuration store: validated, with
// unique names, sound references and sealed secrets, and always readable from
// this server's own copy.
package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
)

// The limits of a catalog.
const (
	MaxSpecBytes = 256 << 10
	MaxRecords   = 100_000 // of one kind
	MaxDocs      = 10_000  // of one Apply
)

// Config says where this server keeps its own files. Both are required.
type Config struct {
	LastSeenPath string // catalog.json: the last seen records, secrets sealed
	KeyPath      string // 32 random bytes that seal secrets; made with mode 0600 when missing, the same file on all servers
}

// Store is the configuration store; package control has one.
type Store interface {
	Ready() <-chan struct{}
	Writable() error
	Get(ctx context.Context, key string) (model.KV, error)
	Txn(ctx context.Context, conds []model.KVCond, ops []model.KVOp) (int64, error)
	Watch(ctx context.Context, prefix string, rev int64) <-chan model.KVBatch
}

// Deps are the collaborators of a Catalog. Store and Kinds are required.
type Deps struct {
	Store Store
	Kinds []Kind
	// Audit takes one event for each change, those written at once together. It should
	// not block for long: the caller of the change waits for it.
	Audit      func(context.Context, ...model.Event)
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Kind is one type of record. The functions must not keep or change what they
// are given, and may be called by several goroutines.
type Kind struct {
	Name, Plural string
	// Normalize decodes a spec strictly, fills in defaults, validates, and
	// returns it in canonical form: normalizing that again changes nothing. Its
	// faults are model.Invalid. Secrets are in clear. The result must have a
	// field "name".
	Normalize func(spec json.RawMessage, v View) (json.RawMessage, error)
	// References lists the records that a normalized spec needs. nil: none.
	References func(spec json.RawMessage) []Ref
	// Shape brings a spec that came from outside into the form in which Secrets
	// finds all of them, and is called before they are looked for. What it
	// cannot read it returns as it is: Normalize says what is wrong. nil: specs
	// have one form.
	Shape func(spec json.RawMessage) json.RawMessage
	// Secrets lists the paths of the secrets of a spec: "webhook.url",
	// "http.headers.*", "more.*.*.password". nil: none. See SecretPaths.
	Secrets func(spec json.RawMessage) []string
	// Hidden lists fields at the top of the spec that are never shown. A new
	// spec that leaves them out keeps them. They are sealed like secrets.
	Hidden []string
	// Internal records are made by the system itself: Apply refuses them and
	// Export leaves them out.
	Internal bool
}

// Ref names a record that another one needs.
type Ref struct {
	Kind     string
	IDOrName string
	Field    string // of the referring spec, for messages
}

// View is what Normalize may look at: the records as they will be when all
// documents of the same Apply are written.
type View interface {
	// Old is the record before the change; false when it is being created.
	Old() (model.Record, bool)
	Get(kind, idOrName string) (model.Record, bool)
	List(kind string) []model.Record // sorted by name; not to be changed
}

// Doc is one document of Apply and Export.
type Doc struct {
	Kind string          `json:"kind"`
	Name string          `json:"name"`
	Spec json.RawMessage `json:"spec"`
}

// What a Change did.
const (
	OpCreate = "create"
	OpUpdate = "update"
	OpDelete = "delete"
	OpNone   = "none"
)

// Change is one change of one record.
type Change struct {
	Kind string        `json:"kind"`
	ID   string        `json:"id,omitempty"`
	Name string        `json:"name"`
	Op   string        `json:"op"`
	Diff string        `json:"diff,omitempty"` // unified, of redacted YAML; of Apply only
	Old  *model.Record `json:"-"`              // secrets in clear; nil for OpCreate
	New  *model.Record `json:"-"`              // secrets in clear; nil for OpDelete
}

// Catalog holds the records. Its methods may be used by several goroutines.
type Catalog struct {
	cfg   Config
	store Store
	kinds []Kind // in the order given
	kind  map[string]*Kind
	audit func(context.Context, ...model.Event)
	log   *slog.Logger
	met   *metrics
	seal  *sealer

	ready     chan struct{}
	readyOnce sync.Once
	live      atomic.Bool // the store's records are loaded, not only the last seen ones
	cache     *cache
	subs      *subscribers
	dirty     chan struct{} // of size one: the last seen copy is out of date
}

// New checks the kinds, reads or makes the key, and loads nothing yet.
func New(cfg Config, deps Deps) (*Catalog, error) {
	if cfg.LastSeenPath == "" || cfg.KeyPath == "" {
		return nil, errors.New("catalog: last-seen path and key path must be given")
	}
	if deps.Store == nil || len(deps.Kinds) == 0 {
		return nil, errors.New("catalog: a store and at least one kind must be given")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Audit == nil {
		deps.Audit = func(context.Context, ...model.Event) {}
	}
	c := &Catalog{
		cfg: cfg, store: deps.Store, kinds: slices.Clone(deps.Kinds), kind: map[string]*Kind{},
		audit: deps.Audit, log: deps.Logger,
		ready: make(chan struct{}), cache: newCache(), subs: &subscribers{}, dirty: make(chan struct{}, 1),
	}
	for i := range c.kinds {
		k := &c.kinds[i]
		if k.Name == "" || k.Normalize == nil || c.kind[k.Name] != nil {
			return nil, fmt.Errorf("catalog: kind %q needs a name of its own and Normalize", k.Name)
		}
		c.kind[k.Name] = k
	}
	var err error
	if c.seal, err = openSealer(cfg.KeyPath, c.log); err != nil {
		return nil, err
	}
	c.met = newMetrics(deps.Registerer, c)
	return c, nil
}

// Ready is closed once records can be read, be it from the store or from the
// last seen copy.
func (c *Catalog) Ready() <-chan struct{} { return c.ready }

// Generation rises whenever a record changed.
func (c *Catalog) Generation() int64 { return c.cache.generation.Load() }

// Writable says why a change would be refused now, nil when it would not.
func (c *Catalog) Writable() error {
	if err := c.store.Writable(); err != nil {
		return err
	}
	if !c.live.Load() {
		return fmt.Errorf("%w: the configuration is still being read", model.ErrUnavailable)
	}
	return nil
}

// Run follows the store until ctx ends.
func (c *Catalog) Run(ctx context.Context) error {
	c.loadLastSeen()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.subs.close() // waits for what is being delivered
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { c.keepLastSeen(ctx) })
	for b := range c.store.Watch(ctx, recordPrefix, 0) {
		c.take(b)
	}
	<-ctx.Done()
	wg.Wait()
	// Nothing is taken in any more: what came last is not in the copy yet.
	select {
	case <-c.dirty:
		c.writeLastSeen()
	default:
	}
	return nil
}

// List returns the records of a kind sorted by name, secrets in clear. The
// slice and the specs must not be changed.
func (c *Catalog) List(kind string) []model.Record { return c.cache.list(kind) }

// Get finds a record by id or name; model.ErrNotFound when there is none.
func (c *Catalog) Get(kind, idOrName string) (model.Record, error) {
	if e := c.cache.find(kind, idOrName); e != nil {
		return e.rec, nil
	}
	return model.Record{}, notFound(kind, idOrName)
}

func notFound(kind, idOrName string) error {
	return fmt.Errorf("%w: there is no %s %q", model.ErrNotFound, kind, idOrName)
}

// Subscribe calls fn for each change, in order, one at a time, from a
// goroutine of its own: a slow fn holds up nobody else. Records that are there
// when Run loads them are changes too. After cancel fn is not called again,
// but one call may still be running.
func (c *Catalog) Subscribe(fn func(Change)) (cancel func()) { return c.subs.add(fn) }

// ownWriteTimeout bounds how long a writer waits to see its own write.
const ownWriteTimeout = 5 * time.Second
