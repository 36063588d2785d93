// Package probetest is the suite that every kind of check passes, and the
// targets it needs.
package probetest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/model"
	"panoptes/internal/probe"
)

// Fault is a check that must not compile, and the field that is to blame.
type Fault struct {
	Target, Block, Field string
}

// Suite says how to test a kind. Functions return a target; their server ends
// with the test. A nil function leaves the case out.
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

// Test runs the suite.
func (s Suite) Test(t *testing.T) {
	t.Run("schema", s.schema)
	t.Run("faults", s.faults)
	if s.Up != nil {
		t.Run("up", func(t *testing.T) {
			target := s.Up(t)
			out := Run(t, s.Kind, target, s.Block, 5*time.Second)
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
			p := Compile(t, s.Kind, s.Up(t), s.Block)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			start := time.Now()
			out := p.Run(ctx)
			require.False(t, out.Success)
			require.Less(t, time.Since(start), time.Second)
		})
	}
	bad := map[string]func(*testing.T) string{"refused": s.Refused, "hole": s.Hole, "garbage": s.Garbage}
	for name, f := range bad {
		if f == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			target := f(t)
			start := time.Now()
			out := Run(t, s.Kind, target, s.Block, 700*time.Millisecond)
			require.False(t, out.Success, out.Message)
			require.NotEmpty(t, out.Message)
			require.Less(t, time.Since(start), 3*time.Second)
			s.shape(t, out)
			_, err := json.Marshal(out.Evidence)
			require.NoError(t, err)
		})
	}
	if s.Hole != nil {
		t.Run("cancel in the middle", func(t *testing.T) {
			p := Compile(t, s.Kind, s.Hole(t), s.Block)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			time.AfterFunc(50*time.Millisecond, cancel)
			start := time.Now()
			require.False(t, p.Run(ctx).Success)
			require.Less(t, time.Since(start), 5*time.Second)
		})
	}
	if s.Endless != nil {
		t.Run("endless", func(t *testing.T) {
			start := time.Now()
			out := Run(t, s.Kind, s.Endless(t), s.Block, time.Second)
			require.Less(t, time.Since(start), 5*time.Second)
			s.shape(t, out)
		})
	}
	if s.Slow != nil {
		t.Run("slow", func(t *testing.T) {
			out := Run(t, s.Kind, s.Slow(t), s.Block, 100*time.Millisecond)
			require.False(t, out.Success)
			require.Contains(t, out.Message, "timed out")
			target := s.Slow(t)
			if strings.Contains(target, "skip") {
				return
			}
			out = Run(t, s.Kind, target, merge(t, s.Block, `{"degraded_after":"100ms"}`), 5*time.Second)
			require.True(t, out.Success, out.Message)
			require.True(t, out.Degraded, out.Message)
		})
	}
	if s.Up != nil && s.Hole != nil {
		t.Run("no leak", func(t *testing.T) {
			up, hole := s.Up(t), s.Hole(t)
			Run(t, s.Kind, up, s.Block, 5*time.Second)
			before := goleak.IgnoreCurrent()
			for range 3 {
				Run(t, s.Kind, up, s.Block, 5*time.Second)
				Run(t, s.Kind, hole, s.Block, 50*time.Millisecond)
			}
			goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("panoptes/internal/probe/probetest.serve"), goleak.IgnoreAnyFunction("net/http.(*conn).serve"))
		})
	}
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
	good := "https://x.example/"
	faults := append(slices.Clone(s.Faults), Fault{Block: `{"nonsense":1}`, Field: s.Kind.Name() + ".nonsense"})
	if s.Up != nil {
		good = s.Up(t)
	}
	for _, f := range faults {
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

// Listen serves each connection on loopback with f until the test ends and
// returns host:port.
func Listen(t testing.TB, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go serve(l, f, done)
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func serve(l net.Listener, f func(net.Conn), done chan struct{}) {
	defer close(done)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() { defer c.Close(); serveOne(c, f) }()
	}
}

func serveOne(c net.Conn, f func(net.Conn)) { f(c) }

// Hole returns an address that takes connections and never answers.
func Hole(t *testing.T) string {
	return Listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
}

// Garbage returns an address that answers with bytes that mean nothing.
func Garbage(t *testing.T) string {
	return Listen(t, func(c net.Conn) {
		_, _ = c.Write([]byte("\x00\xff\x13 what is this\r\n\r\n\x80\x81"))
		_, _ = c.Read(make([]byte, 1))
	})
}

// Refused returns an address where nobody listens.
func Refused(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
