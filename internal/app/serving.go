package app

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"panoptes/internal/api"
	"panoptes/internal/auth"
	"panoptes/internal/cluster"
	"panoptes/internal/model"
	"panoptes/ui"
)

func (a *App) externalURL() string {
	if a.cfg.ExternalURL != "" {
		return a.cfg.ExternalURL
	}
	return a.URL()
}

func (a *App) openAPI() (err error) {
	a.sessions = newSessionNews(a.dialNode, a.logger("auth"))
	a.auth, err = auth.New(auth.Config{DataDir: a.cfg.DataDir, AdminPassword: a.cfg.Access.AdminPassword.Reveal(), APIKey: a.cfg.Access.APIKey.Reveal()},
		auth.Deps{Catalog: a.catalog, Broadcast: a.sessions.send, Audit: a.audit, Out: a.notice, Logger: a.logger("auth"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("open sessions: %w", err)
	}
	a.sessions.state = a.auth.State
	a.cluster.Part("heartbeats", cluster.Part{State: a.beats.state, Merge: a.beats.merge})
	a.beats.share(func(b []byte) { a.cluster.Broadcast("heartbeats", b) })
	a.forward = &forwarder{local: a.query.Handler(), behind: a.behind, whole: a.whole, dial: a.dialNode}
	a.health = newHealth(a)
	a.api, err = api.New(api.Config{
		ServerName: a.cfg.Node, Version: a.opts.Version, Node: a.cfg.Node, BasePath: a.cfg.BasePath, ExternalURL: a.cfg.ExternalURL, OpenMetrics: a.cfg.Access.PublicMetrics,
	}, api.Deps{
		Auth: a.auth, Catalog: catalogForAPI{a.catalog}, Checks: a.checks, Receivers: receiversForAPI{a.alerting}, Events: a.history, Push: a.beats,
		Health: a.health.report, SelfRules: selfRules, Ready: a.ready, Reload: a.reload, Audit: a.audit,
		Cluster: clusterForAPI{a}, Releases: releasesForAPI{a}, Hosts: hostsForAPI{a}, Rules: rulesForAPI{a}, Scrapes: scrapesForAPI{a}, Pushgateway: a.pushes.Handler(), Backups: a.backups, Query: a.queries(), Ingest: a.whenKnown(a.ingest.Handler()), Alertmanager: a.alerting.Handler(),
		Metrics: promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}),
		Profile: profiles(), UI: ui.Files(), Logger: a.logger("api"), Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("make the API: %w", err)
	}
	return nil
}

// ready says why the server does not serve yet.
func (a *App) ready() error {
	select {
	case <-a.started:
		writable := a.catalog.Writable() == nil
		// Without a configuration store nobody waits for its first records.
		if !a.settled.Load() && writable {
			return fmt.Errorf("%w: the first records are being made", model.ErrUnavailable)
		}
		// What is shown until it is open may be older than the last change.
		if a.control != nil && !writable && time.Since(a.began) < controlPatience {
			return fmt.Errorf("%w: the configuration store is being opened", model.ErrUnavailable)
		}
		return nil
	default:
	}
	select {
	case <-a.catalog.Ready():
	default:
		return fmt.Errorf("%w: the configuration is being read", model.ErrUnavailable)
	}
	select {
	case <-a.store.Ready():
	default:
		return fmt.Errorf("%w: the sample log is being replayed", model.ErrUnavailable)
	}
	return fmt.Errorf("%w: checks are being taken up", model.ErrUnavailable)
}
