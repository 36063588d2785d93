package app_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/app"
	"panoptes/internal/config"
	"panoptes/internal/model"
	"panoptes/test/harness"
)

// host is an address of this machine that no outgoing connection uses.
const host = "127.0.0.53"

// member is one server of a cluster in this process.
type member struct {
	t    *testing.T
	cfg  config.Config
	app  *app.App
	done chan error
	stop context.CancelFunc
}

func (m *member) start() {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a, err := app.New(ctx, m.cfg, app.Options{Version: "1.0.0", CheckControl: func(context.Context, string) error { return nil }})
	if err != nil {
		cancel()
	}
	require.NoError(m.t, err)
	m.app, m.stop, m.done = a, cancel, make(chan error, 1)
	go func() { m.done <- a.Run(ctx) }()
	var said map[string]any
	for until := time.Now().Add(30 * time.Second); ; {
		select {
		case err := <-m.done:
			m.done <- err
			require.FailNow(m.t, "the server ended before it was ready", "%s: %v", m.cfg.Node, err)
		case <-time.After(50 * time.Millisecond):
		}
		var code int
		if code, said = call(m.t, a, "GET", "/-/ready", ""); code == http.StatusOK {
			return
		}
		require.True(m.t, time.Now().Before(until), "%s is not ready: %v", m.cfg.Node, said)
	}
}

// end stops the server and returns what it said.
func (m *member) end() error {
	m.t.Helper()
	m.stop()
	select {
	case err := <-m.done:
		m.done <- err
		return err
	case <-time.After(30 * time.Second):
		require.FailNow(m.t, "the server did not stop", m.cfg.Node)
		return nil
	}
}

// settings are those of a server.
func settings(t *testing.T, name, region string) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.Node, cfg.Region, cfg.DataDir, cfg.Bind = name, region, t.TempDir(), host
	for _, addr := range []*string{&cfg.Listen, &cfg.PeerListen, &cfg.ClusterListen, &cfg.GossipListen, &cfg.ClientListen} {
		*addr = harness.FreeAddr(t, host)
	}
	cfg.Probe.AllowLoopback = true
	cfg.Storage.MinFree, cfg.Storage.ControlReserve = 16<<20, 1<<20
	cfg.Access.APIKey, cfg.Access.AdminPassword = key, "a long enough password"
	return cfg
}

// invite gives a server the way into the cluster of another.
func invite(t *testing.T, via *member, cfg *config.Config) {
	t.Helper()
	code, token := call(t, via.app, "POST", "/v1/tokens", `{}`)
	require.Equal(t, http.StatusCreated, code, token)
	cfg.Join, cfg.Token = via.cfg.ClusterListen, model.Secret(token["token"].(string))
}

// grow starts servers, one in each region, that are one cluster.
func grow(t *testing.T, regions ...string) []*member {
	t.Helper()
	var out []*member
	for i, region := range regions {
		cfg := settings(t, fmt.Sprintf("n%d", i+1), region)
		if i > 0 {
			invite(t, out[0], &cfg)
		}
		m := &member{t: t, cfg: cfg}
		m.start()
		t.Cleanup(func() { _ = m.end() })
		out = append(out, m)
	}
	for _, m := range out {
		require.Eventually(t, func() bool {
			_, list := call(t, m.app, "GET", "/v1/nodes", "")
			items, _ := list["items"].([]any)
			alive := 0
			for _, n := range items {
				n := n.(map[string]any)
				if n["state"] == "alive" && n["health"] != nil && n["behind"] != true {
					alive++
				}
			}
			return alive == len(out)
		}, 60*time.Second, 100*time.Millisecond, "every server sees all")
	}
	return out
}

// counted is a target that counts who asks.
func counted(t *testing.T) (target string, runs *atomic.Int64, broken *atomic.Bool) {
	t.Helper()
	runs, broken = &atomic.Int64{}, &atomic.Bool{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		runs.Add(1)
		if broken.Load() {
			http.Error(w, "no", http.StatusInternalServerError)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, runs, broken
}

func checksOf(t *testing.T, via *app.App) map[string]float64 {
	t.Helper()
	_, list := call(t, via, "GET", "/v1/nodes", "")
	out := map[string]float64{}
	items, _ := list["items"].([]any)
	for _, n := range items {
		n := n.(map[string]any)
		c, _ := n["checks"].(float64)
		out[n["name"].(string)] = c
	}
	return out
}

// Sessions, heartbeats, checks and their states are those of the cluster, not
// of one server.
func TestTwoServersAreOne(t *testing.T) {
	c := grow(t, "eu", "eu")
	a, b := c[0].app, c[1].app

	t.Run("a session of one works at the other and ends there", func(t *testing.T) {
		jar, err := cookiejar.New(nil)
		require.NoError(t, err)
		resp, err := (&http.Client{Jar: jar}).Post(a.URL()+"/v1/login", "application/json", strings.NewReader(`{"name":"admin","password":"a long enough password"}`))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
		u, err := url.Parse(a.URL())
		require.NoError(t, err)
		me := func(s *app.App) int {
			req, err := http.NewRequest("GET", s.URL()+"/v1/me", nil)
			require.NoError(t, err)
			for _, c := range jar.Cookies(u) {
				req.AddCookie(c)
			}
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			return resp.StatusCode
		}
		require.Eventually(t, func() bool { return me(b) == http.StatusOK }, 30*time.Second, 20*time.Millisecond)
		req, err := http.NewRequest("POST", b.URL()+"/v1/logout", nil)
		require.NoError(t, err)
		for _, c := range jar.Cookies(u) {
			req.AddCookie(c)
		}
		resp, err = http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Eventually(t, func() bool { return me(a) == http.StatusUnauthorized }, 30*time.Second, 20*time.Millisecond)
	})

	t.Run("a ping at either counts at both", func(t *testing.T) {
		code, body := call(t, a, "POST", "/v1/checks", `{"name":"job","type":"push","interval":"1s","push":{"grace":"1h"}}`)
		require.Equal(t, http.StatusCreated, code, body)
		push, _ := body["push"].(map[string]any)
		token, _ := push["token"].(string)
		require.NotEmpty(t, token, mustJSON(t, body))
		for i, s := range []*app.App{a, b} {
			said := fmt.Sprintf("round %d", i)
			require.Eventually(t, func() bool {
				code, _ := call(t, s, "POST", "/ping/"+token+"?msg="+url.QueryEscape(said), "")
				return code == http.StatusOK
			}, 30*time.Second, 50*time.Millisecond)
			for _, at := range []*app.App{a, b} {
				require.Eventually(t, func() bool {
					_, c := call(t, at, "GET", "/v1/checks/job", "")
					return strings.Contains(mustJSON(t, c), said)
				}, 30*time.Second, 50*time.Millisecond, "%s is known", said)
			}
		}
		code, _ = call(t, b, "DELETE", "/v1/checks/job", "")
		require.Equal(t, http.StatusNoContent, code)
	})

	t.Run("a check runs once per region, also while it moves", func(t *testing.T) {
		target, runs, broken := counted(t)
		code, body := call(t, b, "POST", "/v1/checks", `{"name":"site","type":"http","target":"`+target+`","interval":"1s","timeout":"500ms"}`)
		require.Equal(t, http.StatusCreated, code, body)
		require.Eventually(t, func() bool { return statusOf(t, a, "site") == "up" && statusOf(t, b, "site") == "up" }, 30*time.Second, 50*time.Millisecond)
		require.Eventually(t, func() bool {
			n := checksOf(t, a)
			return n["n1"]+n["n2"] == 1
		}, 30*time.Second, 50*time.Millisecond)
		// While the machine stands still nothing runs: then it is tried again.
		away := 0.0
		for try := 0; try < 4; try++ {
			began, before := time.Now(), runs.Load()
			for _, name := range []string{"n1", "n2"} {
				other := map[string]string{"n1": "n2", "n2": "n1"}[name]
				code, body := call(t, a, "POST", "/v1/nodes/"+name+"/drain", `{"draining":true}`)
				require.Equal(t, http.StatusOK, code, body)
				require.Eventually(t, func() bool {
					n := checksOf(t, b)
					return n[name] == 0 && n[other] == 1
				}, 30*time.Second, 50*time.Millisecond)
				code, _ = call(t, b, "POST", "/v1/nodes/"+name+"/drain", `{"draining":false}`)
				require.Equal(t, http.StatusOK, code)
			}
			require.Eventually(t, func() bool { return runs.Load()-before >= 6 }, 30*time.Second, 20*time.Millisecond)
			away = time.Since(began).Seconds() - float64(runs.Load()-before)
			if math.Abs(away) <= 3.5 {
				break
			}
		}
		require.InDelta(t, 0, away, 3.5, "about one run a second, nothing doubled or left out")

		broken.Store(true)
		require.Eventually(t, func() bool { return statusOf(t, a, "site") == "down" && statusOf(t, b, "site") == "down" }, 20*time.Second, 50*time.Millisecond)
		for _, s := range []*app.App{a, b} {
			require.Eventually(t, func() bool {
				_, list := call(t, s, "GET", "/v1/alerts?q=alertname%3D~Check.*", "")
				items, _ := list["items"].([]any)
				return len(items) == 1
			}, 30*time.Second, 50*time.Millisecond, "every server raises it")
		}
	})

	t.Run("one that lost its configuration store makes none of its own", func(t *testing.T) {
		require.NoError(t, c[1].end())
		put := hide(t, c[1].cfg.DataDir+"/control")
		c[1].start()
		require.Eventually(t, func() bool { return statusOf(t, c[1].app, "site") == "down" }, 30*time.Second, 50*time.Millisecond, "it watches by what it saw last")
		code, body := call(t, c[1].app, "POST", "/v1/checks", `{"name":"x","type":"tcp","target":"127.0.0.1:1"}`)
		require.Equal(t, http.StatusServiceUnavailable, code)
		require.Contains(t, mustJSON(t, body), "node remove n2")
		require.NoError(t, c[1].end())
		require.NoError(t, os.RemoveAll(c[1].cfg.DataDir+"/control"))
		put()
		c[1].start()
	})

	t.Run("one that was away adopts and has what it missed", func(t *testing.T) {
		require.NoError(t, c[1].end())
		code, body := call(t, a, "POST", "/v1/nodes/n2/drain", `{"draining":true}`)
		require.Contains(t, []int{http.StatusOK, http.StatusServiceUnavailable}, code, body)
		c[1].start()
		require.Equal(t, "down", statusOf(t, c[1].app, "site"))
		same := func() bool {
			var sets [2]string
			for i, m := range c {
				_, e := call(t, m.app, "GET", "/v1/events?kind=state&limit=200", "")
				items, _ := e["items"].([]any)
				var ids []string
				for _, x := range items {
					ids = append(ids, x.(map[string]any)["id"].(string))
				}
				sets[i] = strings.Join(ids, " ")
			}
			return sets[0] == sets[1] && sets[0] != ""
		}
		require.Eventually(t, same, 30*time.Second, 200*time.Millisecond)
	})
}

// A server that was removed ends by itself, and what it did moves to others.
func TestRemovedServerEnds(t *testing.T) {
	c := grow(t, "eu", "us", "ap")
	target, _, _ := counted(t)
	for i := range 12 {
		code, body := call(t, c[0].app, "POST", "/v1/checks", fmt.Sprintf(`{"name":"c%d","type":"http","target":"%s","interval":"1s","timeout":"500ms"}`, i, target))
		require.Equal(t, http.StatusCreated, code, body)
	}
	code, _ := call(t, c[0].app, "DELETE", "/v1/nodes/n1?force=true", "")
	require.Equal(t, http.StatusConflict, code, "nobody removes itself")
	code, _ = call(t, c[0].app, "DELETE", "/v1/nodes/n3", "")
	require.Equal(t, http.StatusConflict, code, "it is alive")
	code, body := call(t, c[0].app, "DELETE", "/v1/nodes/n3?force=true", "")
	require.Equal(t, http.StatusNoContent, code, body)
	code, body = call(t, c[1].app, "DELETE", "/v1/nodes/n3?force=true", "")
	require.Equal(t, http.StatusNoContent, code, "twice is no error: %v", body)
	select {
	case err := <-c[2].done:
		require.ErrorContains(t, err, "removed from the cluster")
		c[2].done <- err
	case <-time.After(time.Minute):
		require.FailNow(t, "the removed server goes on")
	}
	for _, m := range c[:2] {
		for i := range 12 {
			require.Eventually(t, func() bool { return statusOf(t, m.app, fmt.Sprintf("c%d", i)) == "up" }, 30*time.Second, 50*time.Millisecond)
		}
	}
	for _, verb := range []string{"leader", "promote"} {
		code, body = call(t, c[0].app, "POST", "/v1/nodes/n3/"+verb, "")
		require.Equal(t, http.StatusConflict, code, body)
		require.Contains(t, mustJSON(t, body), "was removed")
	}
	code, body = call(t, c[0].app, "DELETE", "/v1/nodes/n2?force=true", "")
	require.Equal(t, http.StatusNoContent, code, "the last one may be all: %v", body)
}

// Without its only voter the configuration could be changed nowhere.
func TestTheOnlyVoterStays(t *testing.T) {
	c := grow(t, "eu", "us")
	code, body := call(t, c[1].app, "DELETE", "/v1/nodes/n1?force=true", "")
	require.Equal(t, http.StatusConflict, code)
	require.Contains(t, mustJSON(t, body), "panoptes node promote")
}

// A directory whose identity is lost does not become another cluster.
func TestLostIdentityIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	_, stop := server(t, dir)
	stop()
	for _, f := range []string{"pki/node.json", "seal.key"} {
		t.Run(f, func(t *testing.T) {
			put := hide(t, dir+"/"+f)
			cfg := config.Default()
			cfg.Node, cfg.Region, cfg.DataDir = "n1", "eu", dir
			cfg.Listen, cfg.PeerListen = "127.0.0.1:0", "127.0.0.1:0"
			cfg.ClusterListen, cfg.GossipListen, cfg.ClientListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
			_, err := app.New(t.Context(), cfg, app.Options{Version: "test"})
			require.ErrorContains(t, err, f)
			put()
		})
	}
	server(t, dir)
}

// hide takes a file away until put is called.
func hide(t *testing.T, path string) (put func()) {
	t.Helper()
	require.NoError(t, os.Rename(path, path+".hidden"))
	return func() { require.NoError(t, os.Rename(path+".hidden", path)) }
}
