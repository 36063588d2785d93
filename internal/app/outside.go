package app

import (
	"fmt"
	"net/http"
	"strings"

	"panoptes/internal/config"
	"panoptes/internal/relay"
	"panoptes/internal/remote"
)

// engineName is the engine outside in the relay's list of destinations.
const engineName = "engine"

// openEngine makes the way to an engine outside that keeps the samples.
func (a *App) openEngine() (map[string]relay.Outside, error) {
	s := a.cfg.Storage
	if s.Engine != config.EngineRemote {
		return nil, nil
	}
	var err error
	a.engine, err = remote.New(remote.Config{WriteURL: s.WriteURL, Version: s.WriteVersion, QueryURL: s.QueryURL, Headers: s.Headers, QueryTimeout: a.cfg.Query.Timeout.D(), MaxConcurrent: a.cfg.Query.MaxConcurrent},
		remote.Deps{Logger: a.logger("remote"), Registerer: a.registry})
	if err != nil {
		return nil, fmt.Errorf("open the way to the engine outside (storage): %w", err)
	}
	return map[string]relay.Outside{engineName: a.engine}, nil
}

// queries answers what is asked about samples: the engine outside does when
// there is one, since it has the older ones.
func (a *App) queries() http.Handler {
	if a.engine == nil {
		return a.forward
	}
	outside := a.engine.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The engine outside knows nothing of labels that people are bound to.
		if asksSamples(r.URL.Path) && boundOf(r.Context()).IsEmpty() {
			outside.ServeHTTP(w, r)
			return
		}
		a.forward.ServeHTTP(w, r)
	})
}

func asksSamples(path string) bool {
	what, ok := strings.CutPrefix(path, "/api/v1/")
	switch what {
	case "query", "query_range", "query_exemplars", "series", "labels", "read":
		return ok
	}
	return strings.HasPrefix(what, "label/")
}

// engineErr says why the engine outside takes nothing; nil without one.
func (a *App) engineErr() error {
	if a.engine == nil {
		return nil
	}
	if err := a.engine.Err(); err != nil {
		return fmt.Errorf("the engine outside takes no samples, they wait in the log: %w", err)
	}
	return nil
}
