package selfwatch

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"panoptes/internal/model"
)

// Settings is what people may change while it runs. The zero value means the
// defaults: all rules on, no dead man's switch, no canary.
type Settings struct {
	Rules   map[string]RuleSettings `json:"rules,omitempty"` // by name, see Rules
	DeadMan DeadMan                 `json:"dead_man,omitzero"`
	Canary  Canary                  `json:"canary,omitzero"`
}

// RuleSettings changes one rule; what is left out keeps its default.
type RuleSettings struct {
	Disabled  bool            `json:"disabled,omitempty"`
	Threshold *float64        `json:"threshold,omitempty"` // in the rule's unit
	For       *model.Duration `json:"for,omitempty"`       // how long it must last before it is told
	Severity  string          `json:"severity,omitempty"`  // info, warning, critical
}

// DeadMan is an address outside that is called as long as this server is well.
// Whoever answers there warns when the calls stop.
type DeadMan struct {
	URL      string         `json:"url,omitempty"`      // http or https; {server} in it stands for the server's name; empty: none
	Interval model.Duration `json:"interval,omitempty"` // default 1m
}

// Canary is a test message that travels the whole way to a receiver.
type Canary struct {
	Receiver string         `json:"receiver,omitempty"` // name; empty: none
	Interval model.Duration `json:"interval,omitempty"` // default 10m
}

const (
	defaultDeadMan = time.Minute
	defaultCanary  = 10 * time.Minute
)

func (d DeadMan) interval() time.Duration { return cmp.Or(d.Interval.D(), defaultDeadMan) }
func (c Canary) interval() time.Duration  { return cmp.Or(c.Interval.D(), defaultCanary) }

// ParseSettings reads JSON strictly and validates it.
func ParseSettings(b []byte) (Settings, error) {
	var s Settings
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		var typed *json.UnmarshalTypeError
		if errors.As(err, &typed) {
			return Settings{}, model.Invalid{{Field: typed.Field, Msg: "cannot be " + typed.Value}}
		}
		return Settings{}, model.Invalid{{Msg: strings.TrimPrefix(err.Error(), "json: ")}}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Settings{}, model.Invalid{{Msg: "there is something after the end of the settings"}}
	}
	return s, s.Validate()
}

// Validate names every fault by its field, as a model.Invalid.
func (s Settings) Validate() error {
	var inv model.Invalid
	for _, name := range slices.Sorted(maps.Keys(s.Rules)) {
		field := "rules." + name
		r := find(name)
		if r == nil {
			inv.Add(field, "there is no such rule; there are %s", strings.Join(names(), ", "))
			continue
		}
		set := s.Rules[name]
		switch {
		case set.Threshold == nil:
		case r.Unit == "":
			inv.Add(field+".threshold", "this rule has none; leave it out")
		case !(*set.Threshold >= r.Min && *set.Threshold <= r.Max): // not true for NaN either
			inv.Add(field+".threshold", "must be a number from %g to %g (%s)", r.Min, r.Max, r.Unit)
		}
		if set.For != nil && (*set.For < 0 || set.For.D() > 24*time.Hour) {
			inv.Add(field+".for", "must be from 0s to 24h")
		}
		if set.Severity != "" && !slices.Contains(severities, set.Severity) {
			inv.Add(field+".severity", "must be %s", strings.Join(severities, ", "))
		}
	}
	if s.DeadMan.URL != "" {
		u, err := url.Parse(s.DeadMan.URL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || len(s.DeadMan.URL) > 2048 {
			inv.Add("dead_man.url", "must be an address with http:// or https://")
		}
	}
	if d := s.DeadMan.Interval.D(); d != 0 && (d < 10*time.Second || d > 24*time.Hour) {
		inv.Add("dead_man.interval", "must be from 10s to 24h")
	}
	if len(s.Canary.Receiver) > 256 {
		inv.Add("canary.receiver", "must have at most 256 bytes")
	}
	if d := s.Canary.Interval.D(); d != 0 && (d < time.Minute || d > 7*24*time.Hour) {
		inv.Add("canary.interval", "must be from 1m to 7d")
	}
	return inv.Err()
}

var severities = []string{"info", "warning", "critical"}

// tuned returns r as the settings want it.
func (s Settings) tuned(r Rule) (out Rule, on bool) {
	set := s.Rules[r.Name]
	if set.Threshold != nil {
		r.Threshold = *set.Threshold
	}
	if set.For != nil {
		r.For = *set.For
	}
	r.Severity = cmp.Or(set.Severity, r.Severity)
	return r, !set.Disabled
}
