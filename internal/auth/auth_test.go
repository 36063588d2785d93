package auth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/auth"
	"panoptes/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memCatalog keeps users and keys in memory and normalizes them as the catalog does.
type memCatalog struct {
	mu      sync.Mutex
	records []model.Record
	gen     int64
}

func (c *memCatalog) find(kind, ref string) int {
	return slices.IndexFunc(c.records, func(r model.Record) bool { return r.Kind == kind && (r.ID == ref || r.Name == ref) })
}

func (c *memCatalog) Get(kind, ref string) (model.Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.find(kind, ref)
	if i < 0 {
		return model.Record{}, model.ErrNotFound
	}
	return c.records[i], nil
}

func (c *memCatalog) List(kind string) (out []model.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.records {
		if r.Kind == kind {
			out = append(out, r)
		}
	}
	return out
}

func (c *memCatalog) Generation() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gen
}

func (c *memCatalog) normalize(kind string, spec, old json.RawMessage) (json.RawMessage, error) {
	if kind == model.KindUser {
		return auth.NormalizeUser(spec, old)
	}
	return auth.NormalizeKey(spec, old)
}

func (c *memCatalog) Create(_ context.Context, _, kind string, spec json.RawMessage) (model.Record, error) {
	spec, err := c.normalize(kind, spec, nil)
	if err != nil {
		return model.Record{}, err
	}
	var named struct{ Name string }
	if err := json.Unmarshal(spec, &named); err != nil {
		return model.Record{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.find(kind, named.Name) >= 0 {
		return model.Record{}, model.ErrConflict
	}
	c.gen++
	rec := model.Record{Kind: kind, ID: model.NewID(time.Now()), Name: named.Name, Revision: c.gen, Spec: spec}
	c.records = append(c.records, rec)
	return rec, nil
}

func (c *memCatalog) Patch(_ context.Context, _, kind, ref string, patch json.RawMessage, _ int64) (model.Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.find(kind, ref)
	if i < 0 {
		return model.Record{}, model.ErrNotFound
	}
	var into, from map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(c.records[i].Spec, &into), json.Unmarshal(patch, &from)); err != nil {
		return model.Record{}, err
	}
	for k, v := range from {
		into[k] = v
	}
	spec, err := json.Marshal(into)
	if err != nil {
		return model.Record{}, err
	}
	if spec, err = c.normalize(kind, spec, c.records[i].Spec); err != nil {
		return model.Record{}, err
	}
	c.gen++
	c.records[i].Spec, c.records[i].Revision = spec, c.gen
	return c.records[i], nil
}

func (c *memCatalog) remove(kind, ref string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	i := c.find(kind, ref)
	c.records = slices.Delete(c.records, i, i+1)
}

type bench struct {
	t      *testing.T
	dir    string
	cat    *memCatalog
	auth   *auth.Auth
	events []model.Event
	out    bytes.Buffer
}

func setUp(t *testing.T, change ...func(*auth.Config)) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), cat: &memCatalog{}}
	b.open(change...)
	return b
}

// open starts over with what is on disk and in the catalog.
func (b *bench) open(change ...func(*auth.Config)) {
	b.t.Helper()
	cfg := auth.Config{DataDir: b.dir}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	b.auth, err = auth.New(cfg, auth.Deps{Catalog: b.cat, Out: &b.out, Audit: func(_ context.Context, e model.Event) { b.events = append(b.events, e) }})
	require.NoError(b.t, err)
}

func (b *bench) user(name, password, role string) model.Record {
	b.t.Helper()
	spec := fmt.Sprintf(`{"name":%q,"password":%q,"role":%q}`, name, password, role)
	rec, err := b.cat.Create(b.t.Context(), "test", model.KindUser, json.RawMessage(spec))
	require.NoError(b.t, err)
	return rec
}

func (b *bench) login(name, password string) (model.Login, error) {
	return b.auth.Login(b.t.Context(), model.Credentials{Name: name, Password: password, Address: "192.0.2.1"})
}

// as asks who a request with a header is.
func (b *bench) as(header, value string) (*model.Identity, error) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set(header, value)
	return b.auth.Authenticate(r, "192.0.2.1")
}

func (b *bench) cookie(token string) *model.Identity {
	b.t.Helper()
	id, err := b.as("Cookie", model.SessionCookie+"="+token)
	require.NoError(b.t, err)
	return id
}

func TestLoginAndSession(t *testing.T) {
	b := setUp(t)
	b.user("alice", "correct horse", "editor")
	_, err := b.login("alice", "wrong horse")
	require.ErrorIs(t, err, model.ErrUnauthorized)
	_, err2 := b.login("nobody", "wrong horse")
	require.EqualError(t, err2, err.Error(), "an unknown name must not show")

	l, err := b.login("alice", "correct horse")
	require.NoError(t, err)
	again, err := b.login("alice", "correct horse")
	require.NoError(t, err)
	require.NotEqual(t, l.Token, again.Token)
	id := b.cookie(l.Token)
	require.Equal(t, "alice", id.Name)
	require.Equal(t, "editor", id.Role)
	require.Nil(t, b.cookie("AAAA"))
	require.Nil(t, b.cookie(strings.Repeat("A", len(l.Token))))

	data, err := os.ReadFile(filepath.Join(b.dir, "sessions"))
	require.NoError(t, err)
	require.NotContains(t, string(data), l.Token, "only hashes are kept")
	st, err := os.Stat(filepath.Join(b.dir, "sessions"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())

	b.open() // a restart
	require.NotNil(t, b.cookie(l.Token))
	b.auth.Logout(t.Context(), b.cookie(l.Token))
	require.Nil(t, b.cookie(l.Token))
	b.open()
	require.Nil(t, b.cookie(l.Token), "the end survives a restart")
	require.NotNil(t, b.cookie(again.Token))

	var codes []string
	for _, e := range b.events {
		codes = append(codes, e.Code)
		require.Equal(t, model.EventAudit, e.Kind)
	}
	require.Equal(t, []string{"auth.login_failed", "auth.login_failed", "auth.login", "auth.login", "auth.logout"}, codes)
}

func TestChangesOfTheUserEndSessions(t *testing.T) {
	for name, patch := range map[string]string{"password": `{"password":"another horse"}`, "role": `{"role":"viewer"}`, "disabled": `{"disabled":true}`} {
		t.Run(name, func(t *testing.T) {
			b := setUp(t)
			b.user("alice", "correct horse", "editor")
			l, err := b.login("alice", "correct horse")
			require.NoError(t, err)
			_, err = b.cat.Patch(t.Context(), "test", model.KindUser, "alice", json.RawMessage(`{"display_name":"Alice"}`), 0)
			require.NoError(t, err)
			require.NotNil(t, b.cookie(l.Token), "a new display name ends nothing")
			_, err = b.cat.Patch(t.Context(), "test", model.KindUser, "alice", json.RawMessage(patch), 0)
			require.NoError(t, err)
			require.Nil(t, b.cookie(l.Token))
			b.open()
			require.Nil(t, b.cookie(l.Token))
		})
	}
	b := setUp(t)
	b.user("alice", "correct horse", "editor")
	l, err := b.login("alice", "correct horse")
	require.NoError(t, err)
	b.cat.remove(model.KindUser, "alice")
	b.user("alice", "correct horse", "admin")
	require.Nil(t, b.cookie(l.Token), "a new user of the same name is another one")
}

func TestChangePassword(t *testing.T) {
	b := setUp(t)
	b.user("alice", "correct horse", "editor")
	other, err := b.login("alice", "correct horse")
	require.NoError(t, err)
	l, err := b.login("alice", "correct horse")
	require.NoError(t, err)
	id := b.cookie(l.Token)
	change := func(old, password string) (model.Login, error) {
		return b.auth.ChangePassword(t.Context(), id, password, model.Credentials{Password: old, Address: "192.0.2.1"})
	}
	var fe *model.FieldError
	_, err = change("wrong", "another horse")
	require.ErrorAs(t, err, &fe)
	require.Equal(t, "old_password", fe.Field)
	_, err = change("correct horse", "short")
	require.ErrorAs(t, err, &fe)
	require.Equal(t, "password", fe.Field)
	fresh, err := change("correct horse", "another horse")
	require.NoError(t, err)
	require.Nil(t, b.cookie(other.Token))
	require.Nil(t, b.cookie(l.Token))
	require.NotNil(t, b.cookie(fresh.Token))
	_, err = b.login("alice", "another horse")
	require.NoError(t, err)
}

func TestLoginLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t)
		b.user("alice", "correct horse", "editor")
		for range 10 {
			_, err := b.login("alice", "wrong")
			require.ErrorIs(t, err, model.ErrUnauthorized)
		}
		_, err := b.login("alice", "correct horse")
		var le *auth.LimitError
		require.ErrorAs(t, err, &le)
		require.ErrorIs(t, err, model.ErrLimit)
		require.InDelta(t, 10*time.Minute, le.RetryAfter(), float64(time.Minute))

		_, err = b.auth.Login(t.Context(), model.Credentials{Name: "alice", Password: "correct horse", Address: "192.0.2.2"})
		require.NoError(t, err, "one address must not lock the account for others")
		time.Sleep(le.RetryAfter()) // fake time
		_, err = b.login("alice", "correct horse")
		require.NoError(t, err)
	})
}

func TestSessionsRunOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t)
		b.user("alice", "correct horse", "editor")
		l, err := b.login("alice", "correct horse")
		require.NoError(t, err)
		for range 5 {
			time.Sleep(6 * 24 * time.Hour) // fake time
			if time.Since(l.Expires) < 0 {
				require.NotNil(t, b.cookie(l.Token))
			}
		}
		require.Nil(t, b.cookie(l.Token), "30 days are the end though it was used")

		l, err = b.login("alice", "correct horse")
		require.NoError(t, err)
		time.Sleep(7 * 24 * time.Hour)
		b.open()
		require.Nil(t, b.cookie(l.Token), "7 days unused are the end")
	})
}

func TestOneTimeCode(t *testing.T) {
	b := setUp(t)
	b.user("alice", "correct horse", "editor")
	const secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
	_, err := b.cat.Patch(t.Context(), "test", model.KindUser, "alice", json.RawMessage(`{"totp_secret":"`+secret+`"}`), 0)
	require.NoError(t, err)
	login := func(code string) error {
		_, err := b.auth.Login(t.Context(), model.Credentials{Name: "alice", Password: "correct horse", OTP: code, Address: "192.0.2.1"})
		return err
	}
	var fe *model.FieldError
	for _, code := range []string{"", "000", "abcdef"} {
		err := login(code)
		require.ErrorIs(t, err, model.ErrUnauthorized)
		require.ErrorAs(t, err, &fe)
		require.Equal(t, "otp", fe.Field)
	}
	code, err := totp.GenerateCode(secret, time.Now())
	require.NoError(t, err)
	require.NoError(t, login(code))
	require.ErrorContains(t, login(code), "used")

	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.SetBasicAuth("alice", "correct horse")
	_, err = b.auth.Authenticate(r, "192.0.2.1")
	require.ErrorIs(t, err, model.ErrUnauthorized, "a password alone must not pass the second factor by")
}

func TestKeys(t *testing.T) {
	b := setUp(t)
	key, prefix, hash := b.auth.NewKey()
	require.Regexp(t, regexp.MustCompile(`^pnk_[a-z2-7]{8}_[a-z2-7]{32}$`), key)
	require.True(t, strings.HasPrefix(key, prefix+"_"))
	expired, _, expiredHash := b.auth.NewKey()
	for _, spec := range []string{
		fmt.Sprintf(`{"name":"ci","role":"editor","hash":%q,"prefix":%q}`, hash, prefix),
		fmt.Sprintf(`{"name":"old","role":"admin","hash":%q,"expires":"2020-01-01T00:00:00Z"}`, expiredHash),
	} {
		_, err := b.cat.Create(t.Context(), "test", model.KindKey, json.RawMessage(spec))
		require.NoError(t, err)
	}
	id, err := b.as("Authorization", "Bearer "+key)
	require.NoError(t, err)
	require.Equal(t, "key/ci", id.Actor())
	require.Equal(t, "editor", id.Role)
	for _, bad := range []string{expired, key + "a", prefix, "", hash} {
		_, err := b.as("Authorization", "Bearer "+bad)
		require.ErrorIs(t, err, model.ErrUnauthorized, bad)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.SetBasicAuth("any", key)
	id, err = b.auth.Authenticate(r, "192.0.2.1")
	require.NoError(t, err)
	require.Equal(t, "ci", id.Name)

	b.cat.remove(model.KindKey, "ci")
	_, err = b.as("Authorization", "Bearer "+key)
	require.ErrorIs(t, err, model.ErrUnauthorized)
}

func TestBasic(t *testing.T) {
	b := setUp(t)
	b.user("alice", "correct horse", "viewer")
	basic := func(password string) error {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.SetBasicAuth("alice", password)
		id, err := b.auth.Authenticate(r, "192.0.2.1")
		if err == nil {
			require.Equal(t, "user/alice", id.Actor())
		}
		return err
	}
	require.NoError(t, basic("correct horse"))
	took := time.Hour
	for try := 0; try < 5 && took > time.Second; try++ { // of a busy machine the best try counts
		begun := time.Now()
		for range 100 {
			require.NoError(t, basic("correct horse"))
		}
		took = time.Since(begun)
	}
	require.Less(t, took, time.Second, "a known password is not hashed each time")
	_, err := b.cat.Patch(t.Context(), "test", model.KindUser, "alice", json.RawMessage(`{"password":"another horse"}`), 0)
	require.NoError(t, err)
	require.ErrorIs(t, basic("correct horse"), model.ErrUnauthorized)
	for range 9 {
		require.ErrorIs(t, basic("wrong"), model.ErrUnauthorized)
	}
	require.ErrorIs(t, basic("another horse"), model.ErrLimit)
}

func TestRunEnds(t *testing.T) {
	b := setUp(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, b.auth.Run(ctx))
}
