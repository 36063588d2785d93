package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"panoptes/internal/api"
	"panoptes/internal/model"
)

// memCatalog keeps records in memory the way the catalog does.
type memCatalog struct {
	mu      sync.Mutex
	records map[string][]model.Record
	rev     int64
	down    error
}

func (c *memCatalog) find(kind, ref string) int {
	return slices.IndexFunc(c.records[kind], func(r model.Record) bool { return r.ID == ref || r.Name == ref })
}

func (c *memCatalog) Get(kind, ref string) (model.Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.find(kind, ref)
	if i < 0 {
		return model.Record{}, fmt.Errorf("%s %q: %w", kind, ref, model.ErrNotFound)
	}
	return c.records[kind][i], nil
}

func (c *memCatalog) List(kind string) []model.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := slices.Clone(c.records[kind])
	slices.SortFunc(out, func(x, y model.Record) int { return strings.Compare(x.Name, y.Name) })
	return out
}

// normalize decodes checks and receivers strictly, as the real kinds do.
func normalize(kind string, spec json.RawMessage) (string, error) {
	var named struct {
		Name string `json:"name"`
	}
	var err error
	switch kind {
	case model.KindCheck:
		err = json.Unmarshal(spec, &model.Check{})
	case model.KindRegion:
		err = model.DecodeStrict(spec, &model.Region{})
	}
	if err != nil {
		return "", model.DecodeError(err)
	}
	if err := json.Unmarshal(spec, &named); err != nil {
		return "", model.DecodeError(err)
	}
	return named.Name, model.CheckName(named.Name)
}

func (c *memCatalog) Create(_ context.Context, _, kind string, spec json.RawMessage) (model.Record, error) {
	name, err := normalize(kind, spec)
	if err != nil {
		return model.Record{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down != nil {
		return model.Record{}, c.down
	}
	if c.find(kind, name) >= 0 {
		return model.Record{}, fmt.Errorf("%w: the name %q is taken", model.ErrConflict, name)
	}
	c.rev++
	now := time.Now()
	rec := model.Record{Kind: kind, ID: model.NewID(now), Name: name, Revision: c.rev, Created: now, Updated: now, Spec: spec}
	c.records[kind] = append(c.records[kind], rec)
	return rec, nil
}

func (c *memCatalog) Update(_ context.Context, _, kind, ref string, spec json.RawMessage, rev int64) (model.Record, error) {
	name, err := normalize(kind, spec)
	if err != nil {
		return model.Record{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.find(kind, ref)
	if i < 0 {
		return model.Record{}, model.ErrNotFound
	}
	rec := c.records[kind][i]
	if rev != 0 && rec.Revision != rev {
		return model.Record{}, fmt.Errorf("%w: it is %d now", model.ErrRevision, rec.Revision)
	}
	c.rev++
	rec.Name, rec.Spec, rec.Revision, rec.Updated = name, spec, c.rev, time.Now()
	c.records[kind][i] = rec
	return rec, nil
}

func (c *memCatalog) Patch(ctx context.Context, actor, kind, ref string, patch json.RawMessage, rev int64) (model.Record, error) {
	rec, err := c.Get(kind, ref)
	if err != nil {
		return rec, err
	}
	var into, from map[string]json.RawMessage
	if err := json.Unmarshal(rec.Spec, &into); err != nil {
		return rec, err
	}
	if err := json.Unmarshal(patch, &from); err != nil {
		return rec, model.DecodeError(err)
	}
	for k, v := range from {
		into[k] = v
	}
	spec, err := json.Marshal(into)
	if err != nil {
		return rec, err
	}
	return c.Update(ctx, actor, kind, ref, spec, rev)
}

func (c *memCatalog) Delete(_ context.Context, _, kind, ref string, rev int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.find(kind, ref)
	if i < 0 {
		return model.ErrNotFound
	}
	if rev != 0 && c.records[kind][i].Revision != rev {
		return model.ErrRevision
	}
	c.records[kind] = slices.Delete(slices.Clone(c.records[kind]), i, i+1)
	return nil
}

func (c *memCatalog) Apply(ctx context.Context, actor string, docs []api.Doc, dry bool) ([]api.Change, error) {
	var out []api.Change
	for _, d := range docs {
		op := "create"
		if _, err := c.Get(d.Kind, d.Name); err == nil {
			op = "update"
		} else if !dry {
			if _, err := c.Create(ctx, actor, d.Kind, d.Spec); err != nil {
				return nil, err
			}
		}
		out = append(out, api.Change{Kind: d.Kind, Name: d.Name, Op: op})
	}
	return out, nil
}

// Redact hides fields that are secret in the specs of these tests.
func (c *memCatalog) Redact(rec model.Record) model.Record {
	var spec map[string]any
	if json.Unmarshal(rec.Spec, &spec) != nil {
		return rec
	}
	for _, k := range []string{"password", "password_hash", "hash"} {
		delete(spec, k)
	}
	b, err := json.Marshal(spec)
	if err == nil {
		rec.Spec = b
	}
	return rec
}

func (c *memCatalog) Writable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.down
}

// tokenAuth knows a bearer token and a cookie for each role.
type tokenAuth struct {
	mu   sync.Mutex
	gone map[string]bool // tokens that open nothing any more
}

func (t *tokenAuth) Authenticate(r *http.Request, _ string) (*model.Identity, error) {
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !bearer {
		c, err := r.Cookie(model.SessionCookie)
		if err != nil {
			return nil, nil
		}
		token = c.Value
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(model.Roles, token) || t.gone[token] {
		if bearer {
			return nil, model.ErrUnauthorized
		}
		return nil, nil
	}
	return &model.Identity{UserID: "U-" + token, Name: token, Role: token, SessionID: "s"}, nil
}

func (t *tokenAuth) end(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone[token] = true
}

type tooMany struct{}

func (tooMany) Error() string             { return "too many" }
func (tooMany) Unwrap() error             { return model.ErrLimit }
func (tooMany) RetryAfter() time.Duration { return 90 * time.Second }

func (t *tokenAuth) Login(_ context.Context, c model.Credentials) (model.Login, error) {
	switch {
	case c.Name == "limited":
		return model.Login{}, tooMany{}
	case c.Name == "second" && c.Password == "right" && c.OTP == "":
		return model.Login{}, fmt.Errorf("%w: %w", model.ErrUnauthorized, &model.FieldError{Field: "otp", Msg: "is needed"})
	case c.Password != "right":
		return model.Login{}, fmt.Errorf("%w: wrong", model.ErrUnauthorized)
	}
	return model.Login{Token: "admin", Expires: time.Now().Add(time.Hour), Identity: model.Identity{UserID: "U-admin", Name: c.Name, Role: model.RoleAdmin}}, nil
}

func (t *tokenAuth) Logout(_ context.Context, id *model.Identity) {}

func (t *tokenAuth) ChangePassword(_ context.Context, id *model.Identity, _ string, c model.Credentials) (model.Login, error) {
	if c.Password != "right" {
		return model.Login{}, &model.FieldError{Field: "old_password", Msg: "is wrong"}
	}
	return model.Login{Token: id.Role, Expires: time.Now().Add(time.Hour), Identity: *id}, nil
}

func (t *tokenAuth) NewKey() (key, prefix, hash string) {
	return "pnk_abc_secret", "pnk_abc", strings.Repeat("0", 64)
}

// memChecks knows states that a test sets.
type memChecks struct {
	mu     sync.Mutex
	states map[string]model.CheckState
}

func (c *memChecks) set(id string, s model.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := map[string]model.CheckState{}
	for k, v := range c.states {
		next[k] = v
	}
	next[id] = model.CheckState{Status: s, Since: time.Now(), Message: "m", Regions: map[string]model.RegionState{"eu": {Status: s, At: time.Now(), Duration: 0.1}}}
	c.states = next
}

func (c *memChecks) States() map[string]model.CheckState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.states
}

func (c *memChecks) RunNow(context.Context, string) ([]model.Result, error) {
	return []model.Result{{Region: "eu", Prober: "n1", Success: true, Message: "200 OK", Duration: time.Second, Evidence: []byte(`{"a":1}`)}}, nil
}

func (c *memChecks) Test(ctx context.Context, _ model.Check) ([]model.Result, error) {
	return c.RunNow(ctx, "")
}

func (c *memChecks) Uptime(context.Context, string) (api.Uptime, error) {
	return api.Uptime{Windows: map[string]api.UptimeWindow{"24h": {Up: 86400, Uptime: new(1.0)}, "7d": {}}}, nil
}

func (c *memChecks) Bars(_ context.Context, _ string, from, to time.Time, n int) ([]api.Bar, *float64, error) {
	return slices.Repeat([]api.Bar{{From: from, To: to, Status: "up"}}, n), new(0.5), nil
}

func (c *memChecks) Types() []api.TypeInfo {
	return []api.TypeInfo{{Name: "http", Label: map[string]string{"en": "HTTP"}, Fields: []api.Field{{Name: "method", Type: "string", Label: map[string]string{"en": "Method"}}}}}
}

type memReceivers struct{}

func (memReceivers) TestReceiver(_ context.Context, r model.Receiver) error {
	if r.Name == "broken" {
		return fmt.Errorf("connection refused")
	}
	return nil
}
func (memReceivers) Types() []api.TypeInfo { return []api.TypeInfo{} }

type memEvents struct {
	mu   sync.Mutex
	list []model.Event
	fns  []func(model.Event)
}

func (e *memEvents) Query(_ context.Context, q model.EventQuery) ([]model.Event, string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []model.Event
	for _, ev := range e.list {
		if len(q.Kinds) == 0 || slices.Contains(q.Kinds, ev.Kind) {
			out = append(out, ev)
		}
	}
	return out, "", nil
}

func (e *memEvents) Subscribe(fn func(model.Event)) func() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fns = append(e.fns, fn)
	return func() {}
}

func (e *memEvents) emit(ev model.Event) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, fn := range e.fns {
		fn(ev)
	}
	return len(e.fns) > 0
}

type memPush struct{}

func (memPush) Ping(token, _, _ string) error {
	if token != "good" {
		return model.ErrNotFound
	}
	return nil
}

// alertmanager answers Alertmanager's interface for one alert and the silences it was sent.
type alertmanager struct {
	mu       sync.Mutex
	silences []map[string]any
}

func (m *alertmanager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch r.Method + " " + r.URL.Path {
	case "GET /api/v2/alerts":
		fmt.Fprint(w, `[{"fingerprint":"f1","labels":{"alertname":"Down","severity":"critical","team":"web"},"annotations":{},"startsAt":"2026-01-01T00:00:00Z","endsAt":"2026-01-01T01:00:00Z","receivers":[{"name":"hook"}],"status":{"state":"active","silencedBy":[],"inhibitedBy":[]}}]`)
	case "GET /api/v2/silences":
		_ = json.NewEncoder(w).Encode(m.silences)
	case "POST /api/v2/silences":
		var s map[string]any
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			http.Error(w, `"bad"`, http.StatusBadRequest)
			return
		}
		s["id"], s["status"] = "S1", map[string]string{"state": "active"}
		m.silences = append(m.silences, s)
		fmt.Fprint(w, `{"silenceID":"S1"}`)
	case "DELETE /api/v2/silence/S1":
	default:
		http.Error(w, "not found", http.StatusNotFound)
	}
}

// Reveal puts the stored "token" back, the one secret of these tests' blocks.
func (c *memCatalog) Reveal(kind, idOrName string, spec json.RawMessage) (json.RawMessage, error) {
	rec, err := c.Get(kind, idOrName)
	if err != nil {
		return spec, nil
	}
	var stored struct {
		Webhook struct{ Token string }
	}
	if json.Unmarshal(rec.Spec, &stored) != nil || stored.Webhook.Token == "" {
		return spec, nil
	}
	return bytes.ReplaceAll(spec, []byte(model.Redacted), []byte(stored.Webhook.Token)), nil
}
