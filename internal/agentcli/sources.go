package agentcli

import (
	"log/slog"

	"panoptes/internal/agent"
	"panoptes/internal/agent/scraper"
	"panoptes/internal/agent/service"
	"panoptes/internal/model"
	"panoptes/internal/probe"
)

// sources are what measures on its own beat beside the collectors. What each may
// reach is said by the host's own file.
func sources(cfg Config, log *slog.Logger) ([]agent.Source, error) {
	s, err := newScraper(cfg, log)
	if err != nil {
		return nil, err
	}
	out := []agent.Source{s}
	m, err := newMesh(cfg, log)
	if err != nil {
		return nil, err
	}
	if m != nil {
		out = append(out, m)
	}
	return out, nil
}

// service is what the file says of services.
func (c *Config) service() service.Config {
	return service.Config{Dir: c.DataDir, Services: c.Services, Sockets: c.Collect.ContainerSockets, Keys: c.Actions.Keys, MaxRestarts: c.Actions.MaxRestarts}
}

// newScraper makes the scraper of targets near the host. What the file names is
// reached wherever it is, but for addresses that are never reached; jobs of the
// servers only what the file allows.
func newScraper(cfg Config, log *slog.Logger) (*scraper.Scraper, error) {
	deps := scraper.Deps{
		Dial:   probe.NewDialer(probe.Policy{AllowLoopback: true, AllowPrivate: true}).DialContext,
		Logger: log.With("component", "scrape"),
	}
	if len(cfg.Scrape.Allow) > 0 {
		allow, err := prefixes("scrape.allow", cfg.Scrape.Allow)
		if err != nil {
			return nil, err
		}
		deps.DialServers = probe.NewDialer(probe.Policy{Allow: allow}).DialContext
	}
	s, err := scraper.New(cfg.Scrape, deps)
	if err != nil {
		var inv model.Invalid
		inv.AddErr("scrape", err)
		return nil, inv.Err()
	}
	return s, nil
}
