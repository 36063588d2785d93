// Package probe runs checks: it compiles a check record with the kind's code,
// runs it on time, and hands the result on. The kinds live in sub-packages.
package probe

import (
	"context"
	"net"
	"time"

	"panoptes/internal/model"
)

// Kind is one type of check. A kind holds no state of its own.
type Kind interface {
	// Name is the check's "type" and the name of its block.
	Name() string
	// Compile reads target and block of a check that has its defaults. Every
	// fault is named in one model.Invalid: fields as they are written
	// ("target", "http.method").
	Compile(c *model.Check, env *Env) (Probe, error)
	// Schema lists the fields of the block, for documentation, the editor,
	// redaction and OpenAPI.
	Schema() []Field
	// About names the kind and its target for people.
	About() About
}

// About describes a kind to people. The maps hold en and zh-CN.
type About struct {
	Label       map[string]string `json:"label"`
	Target      map[string]string `json:"target"`      // what the target is; nil when the kind has none
	Placeholder string            `json:"placeholder"` // an example of a target
}

// Probe is a compiled check. Run may be called by several goroutines.
type Probe interface {
	// Run probes once and returns before ctx ends, or at once when it ends.
	// It never panics on what the target sends.
	Run(ctx context.Context) Outcome
}

// Outcome is what one run found. Samples need not contain probe_success and
// probe_duration_seconds: the worker adds them.
type Outcome struct {
	Success    bool
	Degraded   bool                    // works, but a condition with severity degraded failed
	Untried    bool                    // this worker could not or may not try: nothing is known about the target
	Message    string                  // one line, English: "200 OK in 32 ms", "connection refused"
	Samples    []Sample                // names of blackbox_exporter
	Assertions []model.AssertionResult // what was looked at
	Evidence   any                     // marshalled to JSON when the run failed; no secrets
}

// Sample is one value of an outcome.
type Sample struct {
	Name   string
	Labels []string // name, value, name, value, …
	Value  float64
}

// Env is what kinds may use of the process they run in.
type Env struct {
	// Dialer refuses addresses that policy does not allow. All connections
	// and packets of kinds go through it.
	Dialer *Dialer
	// Resolver looks names up; nil means net.DefaultResolver.
	Resolver *net.Resolver
	// Now is the wall clock.
	Now func() time.Time
	// Heartbeats knows the pings that came in; nil where none do.
	Heartbeats Heartbeats
}

// Heartbeat is one ping of a push check.
type Heartbeat struct {
	At       time.Time     `json:"at"`
	Status   string        `json:"status"` // up, down or start
	Message  string        `json:"message,omitempty"`
	Started  time.Time     `json:"started,omitzero"` // the "start" that belongs to it
	Duration time.Duration `json:"duration,omitempty"`

	// At and Started are by the clock of the server that accepted the ping; only
	// there do they say how old it is. Age says so to other servers, as a nanosecond
	// more, so that it is never left out; Heard says so to this one after a restart:
	// when the ping came, by the clock here.
	Age   time.Duration `json:"age,omitempty"`
	Heard time.Time     `json:"heard,omitzero"`
}

// Heartbeats gives the last ping of a token, its times by the clock here.
type Heartbeats interface {
	Last(token string) (Heartbeat, bool)
}

// Field describes one field of a kind's block. A name with "*" stands for the
// entries of a map or list; it is there for redaction and has no input of its own.
type Field struct {
	Name     string            `json:"name"`               // "expect_status", dotted for nested ones: "basic_auth.password"
	Type     string            `json:"type"`               // string, text, int, float, bool, duration, enum, list, map, secret, object
	Default  string            `json:"default,omitempty"`  // as it would be written
	Enum     []string          `json:"enum,omitempty"`     // allowed values
	Advanced bool              `json:"advanced,omitempty"` // shown under "advanced"
	Label    map[string]string `json:"label"`              // en, zh-CN
	Help     map[string]string `json:"help,omitempty"`     // en, zh-CN
}
