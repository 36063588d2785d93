// Package probetest is the suite that every kind of check passes, and the
// targets it needs.
package probetest

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/model"
	"panoptes/internal/probe"
)

// patience is what a busy machine may take for anything. Nothing that is tested
// ends by itself before it.
const patience = 20 * time.Second

// Fault is a check that must not compile, and the field that is to blame.
type Fault struct {
	Target, Block, Field string
}

// Suite says how to test a kind. Functions return an address; their server ends
// with the test. All of them must be given, except by a kind that is Passive.
type Suite struct {
	Kind    probe.Kind
	Block   string                    // settings that work with Up
	Up      func(t *testing.T) string // answers as it should
	Slow    func(t *testing.T) string // answers after 300 ms
	Refused func(t *testing.T) string // nobody listens
	Hole    func(t *testing.T) string // takes the connection and stays silent
	Garbage func(t *testing.T) string // answers nonsense
	Endless func(t *testing.T) string // never stops answering
	Faults  []Fault
	Names   []string // samples of a good run

	// Passive kinds call nobody: Slow and Endless are left out.
	Passive bool
	// Aim makes target and block of an address; nil takes the address as the
	// target and Block as it is.
	Aim func(address string) (target, block string)
	// Silence is what the message says when no answer comes in time; default
	// "timed out".
	Silence string
	// Env is what the kind works with; nil means Env().
	Env *probe.Env
}

// Env is an environment that may probe loopback.
func Env() *probe.Env {
	return &probe.Env{Dialer: probe.NewDialer(probe.Policy{AllowLoopback: true, AllowPrivate: true}), Now: time.Now}
}

// Check makes a check with defaults.
func Check(kind, target, block string) *model.Check {
	c := &model.Check{ID: "01TEST", Name: "test", Type: kind, Target: target, Timeout: model.Duration(2 * time.Second)}
	if block != "" {
		c.Block = json.RawMessage(block)
	}
	c.Default()
	return c
}

// Compile makes a probe that must compile.
func Compile(t testing.TB, k probe.Kind, target, block string) probe.Probe {
	t.Helper()
	p, err := k.Compile(Check(k.Name(), target, block), Env())
	require.NoError(t, err)
	return p
}

// Run runs a probe that must compile, with a deadline.
func Run(t testing.TB, k probe.Kind, target, block string, timeout time.Duration) probe.Outcome {
	t.Helper()
	p := Compile(t, k, target, block)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return p.Run(ctx)
}

var sampleName = regexp.MustCompile(`^probe_[a-z0-9_]+$`)

// compile makes the probe of an address; more is a block laid over the suite's.
func (s Suite) compile(t *testing.T, address, more string) probe.Probe {
	t.Helper()
	target, block := s.aim(address)
	env := s.Env
	if env == nil {
		env = Env()
	}
	p, err := s.Kind.Compile(Check(s.Kind.Name(), target, merge(t, block, more)), env)
	require.NoError(t, err)
	return p
}

func (s Suite) aim(address string) (target, block string) {
	if s.Aim == nil {
		return address, s.Block
	}
	return s.Aim(address)
}

func (s Suite) run(t *testing.T, address, more string, timeout time.Duration) probe.Outcome {
	t.Helper()
	p := s.compile(t, address, more)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return p.Run(ctx)
}

// Test runs the suite.
func (s Suite) Test(t *testing.T) {
	if s.Silence == "" {
		s.Silence = "timed out"
	}
	t.Run("complete", func(t *testing.T) {
		require.NotNil(t, s.Up)
		require.NotNil(t, s.Refused)
		require.NotNil(t, s.Hole)
		require.NotNil(t, s.Garbage)
		require.NotEmpty(t, s.Faults)
		if !s.Passive {
			require.NotNil(t, s.Slow)
			require.NotNil(t, s.Endless)
		}
	})
	t.Run("schema", s.schema)
	t.Run("faults", s.faults)
	t.Run("up", func(t *testing.T) {
		out := s.run(t, s.Up(t), "", patience)
		require.True(t, out.Success, out.Message)
		s.shape(t, out)
		var names []string
		for _, x := range out.Samples {
			names = append(names, x.Name)
		}
		for _, n := range s.Names {
			require.Contains(t, names, n)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		p := s.compile(t, s.Up(t), "")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		out := p.Run(ctx)
		require.False(t, out.Success)
		require.Contains(t, out.Message, "cancelled")
		require.Less(t, time.Since(start), patience)
	})
	bad := map[string]func(*testing.T) string{"refused": s.Refused, "hole": s.Hole, "garbage": s.Garbage}
	for name, f := range bad {
		t.Run(name, func(t *testing.T) {
			address := f(t)
			start := time.Now()
			out := s.run(t, address, "", 700*time.Millisecond)
			require.False(t, out.Success, out.Message)
			require.NotEmpty(t, out.Message)
			require.Less(t, time.Since(start), patience)
			s.shape(t, out)
			_, err := json.Marshal(out.Evidence)
			require.NoError(t, err)
		})
	}
	if !s.Passive {
		t.Run("cancel in the middle", s.cancelInTheMiddle)
		t.Run("endless", s.endless)
		t.Run("slow", s.slow)
	}
	t.Run("no leak", s.noLeak)
}

func (s Suite) cancelInTheMiddle(t *testing.T) {
	p := s.compile(t, s.Hole(t), "")
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	require.False(t, p.Run(ctx).Success)
	require.Less(t, time.Since(start), patience)
}

func (s Suite) endless(t *testing.T) {
	start := time.Now()
	out := s.run(t, s.Endless(t), "", time.Second)
	require.Less(t, time.Since(start), patience)
	s.shape(t, out)
}

func (s Suite) slow(t *testing.T) {
	out := s.run(t, s.Slow(t), "", 100*time.Millisecond)
	require.False(t, out.Success)
	require.Contains(t, out.Message, s.Silence)
	out = s.run(t, s.Slow(t), `{"degraded_after":"100ms"}`, patience)
	require.True(t, out.Success, out.Message)
	require.True(t, out.Degraded, out.Message)
}

func (s Suite) noLeak(t *testing.T) {
	up, hole := s.Up(t), s.Hole(t)
	s.run(t, up, "", patience)
	before := goleak.IgnoreCurrent()
	for range 3 {
		s.run(t, up, "", patience)
		s.run(t, hole, "", 50*time.Millisecond)
	}
	ours := []goleak.Option{before, goleak.IgnoreAnyFunction("panoptes/internal/probe/probetest.serve"), goleak.IgnoreAnyFunction("net/http.(*conn).serve")}
	for end := time.Now().Add(patience); goleak.Find(ours...) != nil && time.Now().Before(end); { // it looks for a moment only
	}
	goleak.VerifyNone(t, ours...)
}

func merge(t *testing.T, a, b string) string {
	m := map[string]json.RawMessage{}
	for _, s := range []string{a, b} {
		if s != "" {
			require.NoError(t, json.Unmarshal([]byte(s), &m))
		}
	}
	out, err := json.Marshal(m)
	require.NoError(t, err)
	return string(out)
}

func (s Suite) shape(t *testing.T, out probe.Outcome) {
	t.Helper()
	require.NotContains(t, out.Message, "\n")
	for _, x := range out.Samples {
		require.Regexp(t, sampleName, x.Name)
		require.Zero(t, len(x.Labels)%2, x.Name)
		for i := 0; i < len(x.Labels); i += 2 {
			require.True(t, model.IsProbeLabel(x.Labels[i]), "%s: model.IsProbeLabel does not know %s", x.Name, x.Labels[i])
		}
	}
}

func (s Suite) schema(t *testing.T) {
	require.NotEmpty(t, s.Kind.About().Label["en"])
	require.NotEmpty(t, s.Kind.About().Label["zh-CN"])
	types := []string{"string", "text", "int", "float", "bool", "duration", "enum", "list", "map", "secret", "object"}
	seen := map[string]bool{}
	for _, f := range s.Kind.Schema() {
		require.False(t, seen[f.Name], f.Name)
		seen[f.Name] = true
		require.Contains(t, types, f.Type, f.Name)
		require.NotEmpty(t, f.Label["en"], f.Name)
		require.NotEmpty(t, f.Label["zh-CN"], f.Name)
		require.Equal(t, f.Type == "enum", len(f.Enum) > 0, f.Name)
	}
}

func (s Suite) faults(t *testing.T) {
	good, _ := s.aim(s.Up(t))
	for _, f := range append(slices.Clone(s.Faults), Fault{Block: `{"nonsense":1}`, Field: s.Kind.Name() + ".nonsense"}) {
		target := f.Target
		if target == "" {
			target = good
		}
		if target == "-" {
			target = ""
		}
		_, err := s.Kind.Compile(Check(s.Kind.Name(), target, f.Block), Env())
		var inv model.Invalid
		require.True(t, errors.As(err, &inv), "%+v gave %v", f, err)
		var fields []string
		for _, e := range inv {
			fields = append(fields, e.Field)
			require.NotEmpty(t, e.Msg)
		}
		require.Contains(t, fields, f.Field, "%+v gave %v", f, err)
	}
}
