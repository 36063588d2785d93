package notify

import (
	"strings"

	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/config/receiver"
	amnotify "github.com/prometheus/alertmanager/notify"
	commoncfg "github.com/prometheus/common/config"

	"panoptes/internal/model"
)

// Build makes the notifiers of a receiver, wrapped so that every attempt is
// bounded, counted and recorded. The record's faults come as model.Invalid.
func (n *Notify) Build(r model.Receiver) (config.Receiver, []amnotify.Integration, error) {
	conf, places, err := n.places(r)
	if err != nil {
		return config.Receiver{}, nil, err
	}
	hide := newRedactor(r)
	out := make([]amnotify.Integration, len(places))
	for i, p := range places {
		w := &attempt{n: n, inner: p.notifier, receiver: r.Name, typ: p.name, idx: p.idx, timeout: p.timeout, hide: hide}
		out[i] = amnotify.NewIntegration(w, p.resolved, p.name, p.idx, r.Name)
	}
	return conf, out, nil
}

// places builds the notifiers of a receiver without the wrapping.
func (n *Notify) places(r model.Receiver) (config.Receiver, []integration, error) {
	conf, err := Decode(r)
	if err != nil {
		return config.Receiver{}, nil, err
	}
	opts := n.clientOptions()
	var inv model.Invalid
	var out []integration
	for i, c := range conf.WebhookConfigs {
		w, err := newWebhook(c, n.tmpl, n.log, opts...)
		if err != nil {
			inv.AddErr("webhook", err)
			continue
		}
		timeout := n.cfg.Timeout
		if c.Timeout > 0 {
			timeout = min(timeout, c.Timeout)
		}
		out = append(out, integration{w, c, "webhook", i, timeout})
	}
	for i, c := range conf.EmailConfigs {
		m, err := newMail(c, n.tmpl, n.dial)
		if err != nil {
			inv.AddErr("email", err)
			continue
		}
		out = append(out, integration{m, c, "email", i, n.cfg.MailTimeout})
	}
	for _, t := range Types {
		if t == "webhook" || t == "email" {
			continue
		}
		built, err := n.borrowed(conf, t, opts)
		if err != nil {
			inv.AddErr(t, err)
			continue
		}
		out = append(out, built...)
	}
	if err := inv.Err(); err != nil {
		return config.Receiver{}, nil, err
	}
	return conf, out, nil
}

// borrowed builds Alertmanager's own notifiers of one type.
func (n *Notify) borrowed(conf config.Receiver, typ string, opts []commoncfg.HTTPClientOption) ([]integration, error) {
	only := only(conf, typ)
	built, err := receiver.BuildReceiverIntegrations(only, n.tmpl, n.log, opts...)
	if err != nil {
		return nil, errorText(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	out := make([]integration, len(built))
	for i := range built {
		out[i] = integration{&built[i], &built[i], built[i].Name(), built[i].Index(), n.cfg.Timeout}
	}
	return out, nil
}

type errorText string

func (e errorText) Error() string { return string(e) }
