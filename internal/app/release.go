package app

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"panoptes/internal/api"
	"panoptes/internal/release"
)

// openRelease opens the directory of the agents' programs.
func (a *App) openRelease() (err error) {
	dir := a.cfg.Agents.Dir
	if dir == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		dir = filepath.Join(filepath.Dir(self), "agents")
	}
	a.release, err = release.New(release.Config{Dir: dir, CacheDir: a.cfg.Path("agents"), Version: a.opts.Version},
		release.Deps{Logger: a.logger("release"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("open the programs of agents: %w", err)
	}
	return nil
}

// releasesForAPI offers the programs of agents, and knows how this server is reached.
type releasesForAPI struct{ a *App }

func (r releasesForAPI) Handler() http.Handler { return r.a.release.Handler() }

func (r releasesForAPI) Install(token, region string, checks bool) (api.AgentInstall, error) {
	in, err := r.a.release.Install(release.Where{URL: r.a.reachedAt(), Join: r.a.addresses().Cluster, Token: token, Region: region, Checks: checks})
	return api.AgentInstall(in), err
}

// reachedAt is the URL by which other machines reach the web port of this server.
func (a *App) reachedAt() string {
	if a.cfg.ExternalURL != "" {
		return a.cfg.ExternalURL
	}
	host, _, err := net.SplitHostPort(a.listen.Addr().String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsLoopback() {
		return a.URL() // whatever it advertises, this port answers here only
	}
	return a.addresses().HTTP
}
