package model

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	pm "github.com/prometheus/common/model"
)

// Check is the record "check": what to probe, from where, and when to call it down.
type Check struct {
	ID       string `json:"-"`
	Revision int64  `json:"-"`

	Name         string            `json:"name"`
	Type         string            `json:"type"`             // a kind of package probe: http, tcp, icmp, dns, tls, websocket, grpc, push
	Target       string            `json:"target,omitempty"` // URL, host:port, host or DNS name, by type; empty for push
	Description  string            `json:"description,omitempty"`
	Interval     Duration          `json:"interval,omitempty"`      // time between two runs; default 60s
	Timeout      Duration          `json:"timeout,omitempty"`       // default 10s, never above Interval
	Regions      []string          `json:"regions,omitempty"`       // region names, or "*" for all; default ["*"]
	Copies       int               `json:"copies,omitempty"`        // workers per region; default 1
	Workers      map[string]string `json:"workers,omitempty"`       // labels that a worker must have to run it, e.g. {"net": "dmz"}
	Policy       string            `json:"policy,omitempty"`        // majority, any, all, a count "2", a share "60%", or weights "eu=2,us=1>=2"
	Retries      int               `json:"retries,omitempty"`       // failed decisions in a row before down; default 0 (confirmed at once)
	RecoverAfter int               `json:"recover_after,omitempty"` // good decisions in a row before up; default 1
	Inverted     bool              `json:"inverted,omitempty"`      // up when the probe fails
	Parent       string            `json:"parent,omitempty"`        // id or name of a check; while that is down, this one does not notify
	Paused       bool              `json:"paused,omitempty"`
	Severity     string            `json:"severity,omitempty"` // label severity of its alert: critical (default), warning, info
	Labels       map[string]string `json:"labels,omitempty"`

	// Block holds the kind's own settings, the object named after Type.
	Block json.RawMessage `json:"-"`
}

// The defaults and bounds of a check.
const (
	DefaultInterval = 60 * time.Second
	DefaultTimeout  = 10 * time.Second
	MinInterval     = time.Second
	MaxInterval     = 24 * time.Hour
	MaxCheckLabels  = 32
)

// UnmarshalJSON reads the flat form; unknown fields are refused.
func (c *Check) UnmarshalJSON(b []byte) error {
	type plain Check
	var p plain
	block, err := Typed(b, &p)
	if err != nil {
		return err
	}
	p.ID, p.Revision = c.ID, c.Revision
	*c = Check(p)
	c.Block = block
	return nil
}

// MarshalJSON writes the flat form with the block named after the type.
func (c Check) MarshalJSON() ([]byte, error) {
	type plain Check
	b, err := json.Marshal(plain(c))
	if err != nil || len(c.Block) == 0 || c.Type == "" {
		return b, err
	}
	return withBlock(b, c.Type, c.Block)
}

// withBlock adds a field to a JSON object that is not empty.
func withBlock(obj []byte, name string, block json.RawMessage) ([]byte, error) {
	key, err := json.Marshal(name)
	if err != nil {
		return nil, err
	}
	out := append(slices.Clone(obj[:len(obj)-1]), ',')
	out = append(append(append(out, key...), ':'), block...)
	return append(out, '}'), nil
}

// Default fills in what was left out.
func (c *Check) Default() {
	if c.Interval == 0 {
		c.Interval = Duration(DefaultInterval)
		if c.Type == "push" {
			c.Interval = Duration(5 * time.Minute)
		}
	}
	if c.Timeout == 0 {
		c.Timeout = min(Duration(DefaultTimeout), c.Interval)
	}
	if len(c.Regions) == 0 {
		c.Regions = []string{"*"}
	}
	if c.Copies == 0 {
		c.Copies = 1
	}
	if c.Policy == "" {
		c.Policy = "majority"
	}
	if c.RecoverAfter == 0 {
		c.RecoverAfter = 1
	}
	if c.Severity == "" {
		c.Severity = "critical"
	}
}

// Validate checks the common fields after Default; the kind checks target and
// block, package verdict the policy.
func (c *Check) Validate() error {
	var inv Invalid
	inv.AddErr("", CheckName(c.Name))
	if c.Type == "" {
		inv.Add("type", "must be given, for example http")
	}
	if len(c.Target) > 2048 {
		inv.Add("target", "is longer than 2048 bytes")
	}
	if len(c.Description) > 4096 {
		inv.Add("description", "is longer than 4096 bytes")
	}
	if d := c.Interval.D(); d < MinInterval || d > MaxInterval {
		inv.Add("interval", "must lie between %s and %s", Duration(MinInterval), Duration(MaxInterval))
	}
	if d := c.Timeout.D(); d < 100*time.Millisecond || c.Timeout > c.Interval {
		inv.Add("timeout", "must lie between 100ms and the interval (%s)", c.Interval)
	}
	seen := map[string]bool{}
	for i, r := range c.Regions {
		if r == "" || len(r) > 64 || seen[r] {
			inv.Add("regions["+strconv.Itoa(i)+"]", "must be a region's name, each once, or \"*\"")
		}
		seen[r] = true
	}
	if c.Copies < 1 || c.Copies > 5 {
		inv.Add("copies", "must lie between 1 and 5")
	}
	if c.Retries < 0 || c.Retries > 100 {
		inv.Add("retries", "must lie between 0 and 100")
	}
	if c.RecoverAfter < 1 || c.RecoverAfter > 100 {
		inv.Add("recover_after", "must lie between 1 and 100")
	}
	if !slices.Contains([]string{"critical", "warning", "info"}, c.Severity) {
		inv.Add("severity", "must be critical, warning or info")
	}
	inv.AddErr("labels", ValidateLabels(c.Labels))
	if len(c.Workers) > MaxCheckLabels {
		inv.Add("workers", "has %d entries; %d are allowed", len(c.Workers), MaxCheckLabels)
	}
	for k, v := range c.Workers {
		if k == "" || v == "" || len(k) > 200 || len(v) > 2048 {
			inv.Add("workers."+k, "must be a label's name and value, up to 200 and 2048 bytes")
		}
	}
	return inv.Err()
}

// reservedLabels are set by the system itself.
var reservedLabels = []string{"check", "check_id", "region", "prober", "severity", "alertname"}

// ValidateLabels checks the labels that people give to a record.
func ValidateLabels(l map[string]string) error {
	var inv Invalid
	if len(l) > MaxCheckLabels {
		inv.Add("", "has %d entries; %d are allowed", len(l), MaxCheckLabels)
	}
	for _, k := range slices.Sorted(maps.Keys(l)) {
		v := l[k]
		switch {
		case !pm.LegacyValidation.IsValidLabelName(k) || strings.HasPrefix(k, "__"):
			inv.Add(k, "a label's name is made of letters, digits and _, begins with a letter and not with __")
		case slices.Contains(reservedLabels, k):
			inv.Add(k, "is set by the system; choose another name")
		case len(k) > 200 || len(v) > 2048:
			inv.Add(k, "is too long: a name has up to 200 bytes, a value up to 2048")
		case v == "" || !pm.LabelValue(v).IsValid():
			inv.Add(k, "the value must not be empty and must be valid UTF-8")
		}
	}
	return inv.Err()
}
