package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"panoptes/internal/model"
)

// Auth knows who people and programs are.
type Auth interface {
	// Authenticate returns nil without an error for a request without credentials.
	Authenticate(r *http.Request, address string) (*model.Identity, error)
	Login(ctx context.Context, c model.Credentials) (model.Login, error)
	Logout(ctx context.Context, id *model.Identity)
	// ChangePassword checks c.Password, the current one, and begins a new session.
	ChangePassword(ctx context.Context, id *model.Identity, password string, c model.Credentials) (model.Login, error)
	NewKey() (key, prefix, hash string)
}

// Catalog holds the records. Its lists must not be changed.
type Catalog interface {
	Get(kind, idOrName string) (model.Record, error)
	List(kind string) []model.Record // sorted by name
	Create(ctx context.Context, actor, kind string, spec json.RawMessage) (model.Record, error)
	Update(ctx context.Context, actor, kind, idOrName string, spec json.RawMessage, ifRevision int64) (model.Record, error)
	Patch(ctx context.Context, actor, kind, idOrName string, patch json.RawMessage, ifRevision int64) (model.Record, error)
	Delete(ctx context.Context, actor, kind, idOrName string, ifRevision int64) error
	Apply(ctx context.Context, actor string, docs []Doc, dryRun bool) ([]Change, error)
	Redact(model.Record) model.Record
	// Reveal puts stored secrets where the spec of that record says model.Redacted.
	Reveal(kind, idOrName string, spec json.RawMessage) (json.RawMessage, error)
	Writable() error
}

// Doc is one record as apply and export write it.
type Doc struct {
	Kind string          `json:"kind"`
	Name string          `json:"name"`
	Spec json.RawMessage `json:"spec"`
}

// Change is what apply does, or would do, to one record.
type Change struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Op   string `json:"op"` // create, update, none
	Diff string `json:"diff,omitempty"`
}

// Checks knows the states of checks and runs them.
type Checks interface {
	// States returns the state of all checks by id. The map must not be changed.
	States() map[string]model.CheckState
	RunNow(ctx context.Context, id string) ([]model.Result, error)
	Test(ctx context.Context, c model.Check) ([]model.Result, error)
	Uptime(ctx context.Context, id string) (Uptime, error)
	// Bars divides the time from from to to into n parts; uptime is the share
	// of the whole that the check was up, nil when nothing is known.
	Bars(ctx context.Context, id string, from, to time.Time, n int) (bars []Bar, uptime *float64, err error)
	// Types lists the kinds of check with their fields.
	Types() []TypeInfo
}

// Bar is a part of a check's past.
type Bar struct {
	From   time.Time `json:"from,omitzero"`
	To     time.Time `json:"to,omitzero"`
	Status string    `json:"s"`              // the worst state in it; "none" before the check existed
	Down   float64   `json:"down,omitempty"` // seconds
}

// Uptime sums up a check's past.
type Uptime struct {
	Windows map[string]UptimeWindow       `json:"windows"`           // 24h, 7d, 30d, 90d, 1y
	Regions map[string]map[string]float64 `json:"regions,omitempty"` // region, window: share of good results, 0 to 1
}

// UptimeWindow is the time in each state, in seconds.
type UptimeWindow struct {
	Up          float64  `json:"up"`
	Down        float64  `json:"down"`
	Degraded    float64  `json:"degraded"`
	Unknown     float64  `json:"unknown"`
	Maintenance float64  `json:"maintenance"`
	Paused      float64  `json:"paused"`
	Pending     float64  `json:"pending"`
	None        float64  `json:"none"`
	Uptime      *float64 `json:"uptime"` // share up of what is known, 0 to 1; null when nothing is
	Outages     int      `json:"outages"`
}

// TypeInfo describes a kind of check or receiver for the editor.
type TypeInfo struct {
	Name   string            `json:"name"`
	Label  map[string]string `json:"label"` // en, zh-CN
	Target *TargetInfo       `json:"target,omitempty"`
	Fields []Field           `json:"fields"`
}

// TargetInfo describes the target of a kind of check; nil when it has none.
type TargetInfo struct {
	Label       map[string]string `json:"label"`
	Placeholder string            `json:"placeholder,omitempty"`
}

// Field describes one field of a block, as package probe's Field does.
type Field struct {
	Name     string            `json:"name"`
	Type     string            `json:"type"`
	Default  string            `json:"default,omitempty"`
	Enum     []string          `json:"enum,omitempty"`
	Required bool              `json:"required,omitempty"`
	Advanced bool              `json:"advanced,omitempty"`
	Label    map[string]string `json:"label"`
	Help     map[string]string `json:"help,omitempty"`
}

// Hosts knows the hosts with agents. Its id arguments are node ids; changing
// and removing them is the Cluster's.
type Hosts interface {
	// Rows lists all hosts on record by name. Nobody may change the list.
	Rows(ctx context.Context) []HostRow
	Detail(ctx context.Context, id string) (HostDetail, error)
	// Find returns the id of a host by its id or name; else model.ErrNotFound.
	Find(idOrName string) (string, error)
	Labels(id string) map[string]string // of its record, not those of the agent's own file
	// KeepLive has an agent send each second for 15 s; model.ErrUnavailable when
	// it talks to no server.
	KeepLive(ctx context.Context, id string) error
	Snapshot(ctx context.Context, id string) (json.RawMessage, error)
	// Restart has a service of a host restarted. The result is done, refused or
	// failed; it leaves its own audit event.
	Restart(ctx context.Context, id, actor, kind, name string) (result, message string, err error)
}

// Receivers tries receivers out.
type Receivers interface {
	TestReceiver(ctx context.Context, r model.Receiver) error
	Types() []TypeInfo
}

// Events holds what happened.
type Events interface {
	Query(ctx context.Context, q model.EventQuery) (events []model.Event, next string, err error)
	// Subscribe calls fn, which must not block, for each new event.
	Subscribe(fn func(model.Event)) (cancel func())
}

// Push takes heartbeats. An unknown token is model.ErrNotFound.
type Push interface {
	Ping(token, status, msg string) error
}

// Health is how the server is.
type Health struct {
	Status string       `json:"status"` // ok, warning, critical
	Score  int          `json:"score"`  // 0 to 100
	Parts  []HealthPart `json:"parts"`
}

// HealthPart is one part's own word.
type HealthPart struct {
	Name    string `json:"name"`
	Level   string `json:"level"`  // L1 process, L2 ports, L3 functions, L4 data are right
	Status  string `json:"status"` // ok, warning, critical
	Message string `json:"message"`
}
