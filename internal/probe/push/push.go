// Package push watches heartbeats: a job calls /ping/<token>, and silence for
// longer than interval and grace is a failure.
package push

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strings"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/probe"
)

// Config is the block "push".
type Config struct {
	Token string         `json:"token,omitempty"` // 32 letters and digits; generated when empty
	Grace model.Duration `json:"grace,omitempty"` // silence allowed beyond the interval; default 1 minute
	// Every is the time between two pings that the job promises; default the
	// check's interval. The interval is also how often the worker looks.
	Every model.Duration `json:"every,omitempty"`
}

// DefaultGrace is the silence that is allowed beyond the time between two pings.
const DefaultGrace = time.Minute

const tokenLen = 32

// NewToken makes a token of 32 letters and digits.
func NewToken() string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	b := make([]byte, tokenLen)
	_, _ = rand.Read(b) // never fails: see crypto/rand.Read
	for i := range b {
		b[i] = alphabet[b[i]&31]
	}
	return string(b)
}

// validToken accepts our tokens and those taken over from other programs.
func validToken(t string) bool {
	if len(t) < 16 || len(t) > 64 {
		return false
	}
	for _, r := range t {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
			return false
		}
	}
	return true
}

// Kind is the type "push". It has no target.
type Kind struct{}

// Name implements probe.Kind.
func (Kind) Name() string { return "push" }

// Normalize gives the check a token when it has none.
func (k Kind) Normalize(c *model.Check) error {
	var cfg Config
	if err := probe.Decode(c, &cfg); err != nil {
		return err
	}
	if cfg.Token != "" {
		return nil
	}
	cfg.Token = NewToken()
	b, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	c.Block = b
	return nil
}

// TokenOf returns the token of a push check, "" for any other check.
func TokenOf(c *model.Check) string {
	var cfg Config
	if c.Type != "push" || probe.Decode(c, &cfg) != nil {
		return ""
	}
	return cfg.Token
}

type pushProbe struct {
	env     *probe.Env
	token   string
	allowed time.Duration
	start   time.Time // when the watch began: a new job has time for its first ping
}

// Compile implements probe.Kind.
func (Kind) Compile(c *model.Check, env *probe.Env) (probe.Probe, error) {
	var cfg Config
	if err := probe.Decode(c, &cfg); err != nil {
		return nil, err
	}
	var inv model.Invalid
	if c.Target != "" {
		inv.Add("target", "must be empty: a heartbeat comes in, nothing is called")
	}
	if cfg.Token != "" && !validToken(cfg.Token) {
		inv.Add("push.token", "must be 16 to 64 letters, digits, - or _; leave it empty to have one generated")
	}
	if cfg.Grace < 0 || cfg.Grace.D() > 31*24*time.Hour {
		inv.Add("push.grace", "must lie between 0s and 31d")
	}
	if cfg.Every < 0 || cfg.Every.D() > 400*24*time.Hour {
		inv.Add("push.every", "must lie between 0s (the interval) and 400d")
	}
	if err := inv.Err(); err != nil {
		return nil, err
	}
	if cfg.Grace == 0 {
		cfg.Grace = model.Duration(DefaultGrace)
	}
	every := cfg.Every
	if every == 0 {
		every = c.Interval
	}
	now := time.Now
	if env.Now != nil {
		now = env.Now
	}
	return &pushProbe{env: env, token: cfg.Token, allowed: every.D() + cfg.Grace.D(), start: now()}, nil
}

// Run implements probe.Probe.
func (p *pushProbe) Run(ctx context.Context) probe.Outcome {
	if err := ctx.Err(); err != nil {
		return probe.Outcome{Message: probe.Reason(err)} // whoever stopped asking must not take it for a heartbeat
	}
	now := time.Now()
	if p.env.Now != nil {
		now = p.env.Now()
	}
	var last probe.Heartbeat
	ok := false
	if p.env.Heartbeats != nil {
		last, ok = p.env.Heartbeats.Last(p.token)
	}
	if !ok {
		waited := now.Sub(p.start)
		if waited <= p.allowed {
			return probe.Outcome{Success: true, Message: "waiting for the first ping"}
		}
		return probe.Outcome{Message: "no ping since the watch began " + age(waited) + " ago"}
	}
	silent := now.Sub(last.At)
	out := probe.Outcome{Samples: []probe.Sample{
		{Name: "probe_push_last_ping_timestamp_seconds", Value: float64(last.At.UnixMilli()) / 1e3},
	}}
	if last.Duration > 0 {
		out.Samples = append(out.Samples, probe.Sample{Name: "probe_push_job_duration_seconds", Value: last.Duration.Seconds()})
	}
	text := ""
	if last.Message != "" {
		text = ": " + probe.Line(last.Message) // it may come from another server
	}
	switch {
	case silent > p.allowed:
		out.Message = "no ping for " + age(silent) + ", allowed are " + age(p.allowed)
	case last.Status == StatusDown:
		out.Message = "the job reported a failure" + text
	case last.Status == StatusStart:
		out.Success, out.Message = true, "the job runs since "+age(silent)
	default:
		out.Success, out.Message = true, "last ping "+age(silent)+" ago"+text
	}
	if !out.Success {
		out.Evidence = last
	}
	return out
}

func age(d time.Duration) string {
	return model.Duration(d.Round(time.Second)).String()
}

// About implements probe.Kind.
func (Kind) About() probe.About {
	return probe.About{Label: probe.T("Heartbeat (push)", "心跳（推送）")}
}

// Schema implements probe.Kind.
func (Kind) Schema() []probe.Field {
	t := probe.T
	return []probe.Field{
		{Name: "grace", Type: "duration", Default: "1m", Label: t("Grace time", "宽限时间"), Help: t("Silence allowed beyond the time between two pings.", "超过心跳间隔后仍允许的静默时间。")},
		{Name: "every", Type: "duration", Label: t("Time between pings", "心跳间隔"), Help: t("Empty means the check's interval.", "留空则使用检查间隔。")},
		{Name: "token", Type: "string", Advanced: true, Label: t("Token", "令牌"), Help: t("Part of the address /ping/<token>; generated when empty.", "地址 /ping/<token> 的一部分；留空则自动生成。")},
	}
}

// statusOf reads what a ping says of itself.
func statusOf(s string) (string, bool) {
	switch strings.ToLower(s) {
	case "", "up", "ok", "0", "success":
		return StatusUp, true
	case "down", "fail", "error":
		return StatusDown, true
	case "start":
		return StatusStart, true
	}
	code := len(s) <= 3
	for _, r := range s {
		code = code && r >= '0' && r <= '9'
	}
	return StatusDown, code // any other exit code
}
