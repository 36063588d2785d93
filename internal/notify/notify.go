// Package notify sends notifications: it turns receiver records into
// Alertmanager's receivers, wraps every attempt so that it is bounded, counted
// and recorded as an event, and has its own webhook and mail senders.
package notify

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	amnotify "github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
)

// Config is what an operator may set.
type Config struct {
	// ExternalURL is where people reach the pages; messages link to it.
	ExternalURL string
	// Language of the texts that a receiver does not set itself: "en" (the
	// default) or "zh-CN".
	Language string
	// Timeout bounds one attempt over HTTP; default 15 s.
	Timeout time.Duration
	// MailTimeout bounds one attempt to send a mail; default 30 s.
	MailTimeout time.Duration
}

// Deps are the collaborators. Every one may be left out.
type Deps struct {
	// Dialer opens all outbound connections and refuses what policy does not
	// allow; nil dials without a policy.
	Dialer func(ctx context.Context, network, addr string) (net.Conn, error)
	// Record takes an event for each attempt. It must not block.
	Record func(model.Event)
	// Logger defaults to one that discards.
	Logger *slog.Logger
	// Registerer takes the metrics; nil means none.
	Registerer prometheus.Registerer
}

// Notify builds receivers. It may be used by several goroutines.
type Notify struct {
	cfg     Config
	dial    dialFunc
	record  func(model.Event)
	log     *slog.Logger
	tmpl    *template.Template
	metrics *metrics
	ledger  *ledger
}

// New checks cfg and reads the message templates.
func New(cfg Config, deps Deps) (*Notify, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 15 * time.Second
	}
	if cfg.MailTimeout <= 0 {
		cfg.MailTimeout = 30 * time.Second
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Dialer == nil {
		deps.Dialer = (&net.Dialer{Timeout: cfg.Timeout}).DialContext
	}
	if deps.Record == nil {
		deps.Record = func(model.Event) {}
	}
	u, err := url.Parse(strings.TrimRight(cfg.ExternalURL, "/"))
	if err != nil {
		return nil, fmt.Errorf("parse external URL: %w", err)
	}
	tmpl, err := newTemplate(cfg.Language)
	if err != nil {
		return nil, err
	}
	tmpl.ExternalURL = u
	m, err := newMetrics(deps.Registerer)
	if err != nil {
		return nil, err
	}
	return &Notify{
		cfg: cfg, dial: bounded(deps.Dialer), record: deps.Record, log: deps.Logger,
		tmpl: tmpl, metrics: m, ledger: newLedger(),
	}, nil
}

// Template returns the templates that receivers render their messages with.
func (n *Notify) Template() *template.Template { return n.tmpl }

// Validate says what is wrong with a receiver, as model.Invalid. Nothing is sent.
func (n *Notify) Validate(r model.Receiver) error {
	_, _, err := n.Build(r)
	return err
}

// Timeout is the longest that one attempt may take.
func (n *Notify) Timeout() time.Duration { return max(n.cfg.Timeout, n.cfg.MailTimeout) }

// integration is one place of a receiver before it is wrapped.
type integration struct {
	notifier amnotify.Notifier
	resolved amnotify.ResolvedSender
	name     string
	idx      int
	timeout  time.Duration
}
