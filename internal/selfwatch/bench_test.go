package selfwatch_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/selfwatch"
)

// bench is a Watch with everything around it faked. Its machine is absent
// unless a test writes one.
type bench struct {
	*selfwatch.Watch
	reg *prometheus.Registry

	mu       sync.Mutex
	facts    selfwatch.Facts
	put      []selfwatch.Alert
	putErr   error
	refused  int
	owns     bool
	canaries []time.Time
	canary   error
	calls    []string
	status   int
}

func (b *bench) RoundTrip(r *http.Request) (*http.Response, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, r.URL.String())
	if b.status == 0 {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: b.status, Body: http.NoBody, Request: r}, nil
}

// start runs a Watch in the bubble of the test.
func start(t *testing.T, cfg selfwatch.Config, s selfwatch.Settings, f selfwatch.Facts) *bench {
	t.Helper()
	b := &bench{reg: prometheus.NewRegistry(), facts: f, owns: true, status: 200}
	cfg.NodeID, cfg.Name = "id1", "n1"
	if cfg.ProcDir == "" {
		cfg.ProcDir, cfg.CgroupDir = t.TempDir(), t.TempDir()
	}
	var err error
	b.Watch, err = selfwatch.New(cfg, s, selfwatch.Deps{
		Registerer: b.reg, HTTP: &http.Client{Transport: b},
		Facts: func(context.Context) selfwatch.Facts { b.mu.Lock(); defer b.mu.Unlock(); return b.facts },
		Put: func(_ context.Context, alerts []selfwatch.Alert) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.putErr != nil {
				b.refused++
				return b.putErr
			}
			b.put = append(b.put, alerts...)
			return nil
		},
		Owns: func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.owns },
		Canary: func(context.Context, string) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.canaries = append(b.canaries, time.Now())
			return b.canary
		},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	synctest.Wait()
	return b
}

// after lets d pass.
func (b *bench) after(d time.Duration) *bench {
	<-time.After(d)
	synctest.Wait()
	return b
}

func (b *bench) set(f func(*bench)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b)
}

// alerts returns what was put, called what the switch got, sent when canaries flew.
func (b *bench) alerts() []selfwatch.Alert {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.put)
}

func (b *bench) called() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.calls)
}

func (b *bench) sent() []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.canaries)
}

func (b *bench) refusals() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}

// firing spells what fires: "Name server", with further labels behind.
func (b *bench) firing() []string {
	var out []string
	for _, a := range b.Firing() {
		out = append(out, spell(a))
	}
	return out
}

func spell(a selfwatch.Alert) string {
	s := a.Name + " " + a.Labels["server"]
	for _, k := range slices.Sorted(maps.Keys(a.Labels)) {
		if k != "alertname" && k != "server" && k != "severity" {
			s += " " + k + "=" + a.Labels[k]
		}
	}
	return s
}

var three = selfwatch.Facts{
	Servers: []selfwatch.Server{{ID: "id1", Name: "n1"}, {ID: "id2", Name: "n2"}, {ID: "id3", Name: "n3"}},
	Members: []model.Member{
		{ID: "id1", Name: "n1", State: model.MemberAlive, Self: true},
		{ID: "id2", Name: "n2", State: model.MemberAlive},
		{ID: "id3", Name: "n3", State: model.MemberAlive},
	},
}

func with(change func(*selfwatch.Facts)) selfwatch.Facts {
	f := three
	f.Members = slices.Clone(three.Members)
	change(&f)
	return f
}
