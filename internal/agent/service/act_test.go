package service_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/agent/service"
	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// manager is one of a test.
type manager struct {
	mu       sync.Mutex // guards what follows
	status   map[string]service.Status
	err      error
	restarts []string
	fail     error
	block    chan struct{}
}

func (m *manager) Status(_ context.Context, s model.HostService) (service.Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status[s.Name], m.err
}

func (m *manager) Restart(ctx context.Context, name string) error {
	m.mu.Lock()
	m.restarts = append(m.restarts, name)
	block := m.block
	err := m.fail
	m.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
		}
	}
	return err
}

func (m *manager) done() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.restarts)
}

// bench is a host of a test.
type bench struct {
	t      *testing.T
	cfg    service.Config
	units  *manager
	now    time.Time
	key    ed25519.PrivateKey
	mu     sync.Mutex // guards events
	events []model.Event
	s      *service.Services
}

const nginx = "nginx.service"

func newBench(t *testing.T) *bench {
	pub, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	b := &bench{t: t, key: key, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), units: &manager{status: map[string]service.Status{}}}
	b.cfg = service.Config{Dir: t.TempDir(), NodeID: "node-1", Keys: []string{uplink.KeyText(pub)}, Services: []service.Service{
		{HostService: model.HostService{Kind: "unit", Name: nginx}, Restart: true},
		{HostService: model.HostService{Kind: "unit", Name: "db.service"}},
	}}
	return b.start()
}

func (b *bench) start() *bench {
	b.t.Helper()
	var err error
	b.s, err = service.New(b.cfg, service.Deps{
		Managers: map[string]service.Manager{"unit": b.units}, Now: func() time.Time { return b.now },
		Event: func(e model.Event) { b.mu.Lock(); defer b.mu.Unlock(); b.events = append(b.events, e) },
	})
	require.NoError(b.t, err)
	return b
}

var nonce int

// signed is a good request, changed by f before it is signed.
func (b *bench) signed(f ...func(*uplink.Action)) uplink.ActionRequest {
	b.t.Helper()
	nonce++
	a := uplink.Action{Nonce: fmt.Sprint("n", nonce), Node: "node-1", Action: "restart", Kind: "unit", Name: nginx, Actor: "user/alice", Issued: b.now.UnixMilli(), Expires: b.now.Add(uplink.ActionLife).UnixMilli()}
	for _, g := range f {
		g(&a)
	}
	r, err := a.Sign(b.key)
	require.NoError(b.t, err)
	return r
}

func (b *bench) refused(r uplink.ActionRequest, code, text string) {
	b.t.Helper()
	before := b.units.done()
	res := b.s.Act(b.t.Context(), r)
	require.Equal(b.t, []string{uplink.ActionRefused, code}, []string{res.Result, res.Code}, res.Message)
	require.Contains(b.t, res.Message, text)
	require.Equal(b.t, before, b.units.done(), "nothing was restarted")
}

func TestARestartThatIsAllowed(t *testing.T) {
	b := newBench(t)
	require.True(t, b.s.Allows())
	res := b.s.Act(t.Context(), b.signed())
	require.Equal(t, uplink.ActionDone, res.Result, res.Message)
	require.Equal(t, []string{nginx}, b.units.restarts)
	require.Len(t, b.events, 1)
	require.Equal(t, "host.restart_request", b.events[0].Code)
	require.Contains(t, b.events[0].Message, "user/alice")
	b.units.fail = errors.New("it does not start")
	res = b.s.Act(t.Context(), b.signed())
	require.Equal(t, uplink.ActionFailed, res.Result)
	require.Contains(t, res.Message, "it does not start")
}

func TestRestartsThatAreRefused(t *testing.T) {
	b := newBench(t)
	b.refused(b.signed(func(a *uplink.Action) { a.Name = "db.service" }), uplink.RefusedOff, "switched off")
	b.refused(b.signed(func(a *uplink.Action) { a.Name = "sshd.service" }), uplink.RefusedOff, "switched off")
	b.refused(b.signed(func(a *uplink.Action) { a.Kind = "container" }), uplink.RefusedOff, "switched off")
	b.refused(b.signed(func(a *uplink.Action) { a.Node = "node-2" }), uplink.RefusedInvalid, "another host")
	b.refused(b.signed(func(a *uplink.Action) { a.Action = "stop" }), uplink.RefusedInvalid, "nothing that this agent does")
	b.refused(b.signed(func(a *uplink.Action) { a.Nonce = "" }), uplink.RefusedInvalid, "one occasion")
	b.refused(b.signed(func(a *uplink.Action) { a.Expires += 1e9 }), uplink.RefusedInvalid, "one occasion")
	b.refused(b.signed(func(a *uplink.Action) { a.Issued -= 40_000; a.Expires -= 40_000 }), uplink.RefusedInvalid, "look at its clock")
	b.refused(b.signed(func(a *uplink.Action) { a.Issued += 40_000; a.Expires += 40_000 }), uplink.RefusedInvalid, "look at its clock")

	// Signed by somebody else, with either's key named; changed after signing.
	pub, other, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	mine := b.key
	b.key = other
	forged := b.signed()
	b.key = mine
	b.refused(forged, uplink.RefusedOff, uplink.KeyText(pub))
	forged.Key = b.signed().Key
	b.refused(forged, uplink.RefusedInvalid, "signature")
	for name, change := range map[string]func(*uplink.ActionRequest){
		"nonce":     func(r *uplink.ActionRequest) { r.Action.Nonce += "x" },
		"actor":     func(r *uplink.ActionRequest) { r.Action.Actor = "user/bob" },
		"expires":   func(r *uplink.ActionRequest) { r.Action.Expires++ },
		"signature": func(r *uplink.ActionRequest) { r.Sig[3] ^= 1 },
		"none":      func(r *uplink.ActionRequest) { r.Sig = nil },
	} {
		r := b.signed()
		change(&r)
		t.Run(name, func(t *testing.T) { b.refused(r, uplink.RefusedInvalid, "signature") })
	}
	require.Zero(t, b.units.done())

	b.cfg.Keys = nil
	b.start()
	require.False(t, b.s.Allows())
	b.refused(b.signed(), uplink.RefusedOff, "actions.keys")
}

func TestARequestIsDoneOnce(t *testing.T) {
	b := newBench(t)
	r := b.signed()
	require.Equal(t, uplink.ActionDone, b.s.Act(t.Context(), r).Result)
	b.refused(r, uplink.RefusedInvalid, "made before")
	b.start() // the agent, anew
	b.refused(r, uplink.RefusedInvalid, "made before")
	// What was remembered is damaged: nothing from before is done.
	require.NoError(t, os.WriteFile(filepath.Join(b.cfg.Dir, "actions.json"), []byte("{"), 0o600))
	b.now = b.now.Add(time.Second)
	b.start()
	b.refused(r, uplink.RefusedInvalid, "made before")
	require.Equal(t, uplink.ActionDone, b.s.Act(t.Context(), b.signed()).Result)
}

func TestWhatCannotBeRememberedIsNotDone(t *testing.T) {
	b := newBench(t)
	require.NoError(t, os.RemoveAll(b.cfg.Dir))
	res := b.s.Act(t.Context(), b.signed())
	require.Equal(t, uplink.ActionFailed, res.Result)
	require.Zero(t, b.units.done())
}

func TestRestartsAreRare(t *testing.T) {
	b := newBench(t)
	for range 3 {
		require.Equal(t, uplink.ActionDone, b.s.Act(t.Context(), b.signed()).Result)
		b.now = b.now.Add(time.Minute)
	}
	b.refused(b.signed(), uplink.RefusedLimit, "3 times in ten minutes")
	b.start()
	b.refused(b.signed(), uplink.RefusedLimit, "3 times in ten minutes")
	b.now = b.now.Add(-5 * time.Minute) // a clock that is set back makes no room
	b.refused(b.signed(), uplink.RefusedLimit, "3 times in ten minutes")
	b.now = b.now.Add(13 * time.Minute)
	require.Equal(t, uplink.ActionDone, b.s.Act(t.Context(), b.signed()).Result)
}

func TestOneRestartAtATime(t *testing.T) {
	b := newBench(t)
	b.units.block = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan uplink.ActionResult, 1)
	go func() { first <- b.s.Act(ctx, b.signed()) }()
	require.Eventually(t, func() bool { return b.units.done() == 1 }, 30*time.Second, time.Millisecond)
	b.refused(b.signed(), uplink.RefusedLimit, "under way")
	// The connection is lost; the restart is not.
	cancel()
	require.Contains(t, (<-first).Message, "connection has ended")
	close(b.units.block)
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.events) == 2 && b.events[1].Severity == "info"
	}, 30*time.Second, time.Millisecond)
}

func TestTheFileNamesItsFaults(t *testing.T) {
	cfg := service.Config{Keys: []string{"x"}, MaxRestarts: -1, Services: []service.Service{
		{HostService: model.HostService{Kind: "process", Name: "shop"}, Restart: true},
		{HostService: model.HostService{Kind: "container", Name: "shop"}},
		{HostService: model.HostService{Kind: "unit", Name: "a.service"}, AutoRestart: &service.AutoRestart{}},
	}}
	err := cfg.Validate()
	for _, s := range []string{"services[0].restart:", "services[1]:", "services[2].auto_restart.after:", "actions.keys[0]:", "actions.max_restarts:"} {
		require.ErrorContains(t, err, s)
	}
}

// FuzzAct: what servers send is not trusted either.
func FuzzAct(f *testing.F) {
	f.Add("n", "node-1", "restart", "unit", nginx, int64(0), int64(1), []byte("k"), []byte("s"))
	pub, _, err := ed25519.GenerateKey(nil)
	require.NoError(f, err)
	units := &manager{}
	s, err := service.New(service.Config{NodeID: "node-1", Keys: []string{uplink.KeyText(pub)}, Services: []service.Service{{HostService: model.HostService{Kind: "unit", Name: nginx}, Restart: true}}},
		service.Deps{Managers: map[string]service.Manager{"unit": units}})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, nonce, node, action, kind, name string, issued, expires int64, key, sig []byte) {
		for _, k := range [][]byte{key, pub} {
			res := s.Act(t.Context(), uplink.ActionRequest{Action: uplink.Action{Nonce: nonce, Node: node, Action: action, Kind: kind, Name: name, Issued: issued, Expires: expires}, Key: k, Sig: sig})
			require.NotEqual(t, uplink.ActionDone, res.Result)
		}
		require.Zero(t, units.done())
	})
}
