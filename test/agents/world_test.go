//go:build e2e && linux

// Package agents runs real agents on machines of their own against real
// servers, and takes the servers, the network and the machines away from them.
package agents

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Isolated(m.Run)) }

// server is a machine with a server.
type server struct {
	t    *testing.T
	host *harness.Host
	proc *harness.Process
	args []string
}

// client gives up soon: machines are cut off on purpose.
var client = &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func (s *server) do(method, path string, body, out any) error {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, "http://"+s.host.IP+":9700"+path, r)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+harness.APIKey)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, data)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}

func (s *server) get(path string, out any) error { return s.do(http.MethodGet, path, nil, out) }

func (s *server) start() {
	s.t.Helper()
	s.proc.Start(s.args...)
	eventually(s.t, 60*time.Second, s.host.Name+" is not ready", func() error {
		if !s.proc.Running() {
			return fmt.Errorf("it ended")
		}
		return s.get("/-/ready", nil)
	})
}

// cluster is servers on machines of a network of their own.
type cluster struct {
	t       *testing.T
	net     *harness.Network
	servers []*server
	still   *harness.Standstill
}

func newCluster(t *testing.T, regions ...string) *cluster {
	t.Helper()
	t.TempDir() // is removed after everything that is made from here on has ended
	c := &cluster{t: t, net: harness.NewNetwork(t), still: harness.NewStandstill(t)}
	bin := harness.Binary(t)
	for i, region := range regions {
		name := fmt.Sprintf("n%d", i+1)
		h := c.net.Host(name)
		s := &server{t: t, host: h, proc: h.Program(bin, "PANOPTES_API_KEY="+harness.APIKey, "PANOPTES_ADMIN_PASSWORD="+harness.Password,
			"PANOPTES_STORAGE_MIN_FREE=16MB", "PANOPTES_STORAGE_CONTROL_RESERVE=16MB")}
		s.args = []string{"server", "--node", name, "--region", region, "--data-dir", filepath.Join(t.TempDir(), "data"), "--bind", h.IP}
		if i > 0 {
			s.args = append(s.args, "--join", c.servers[0].host.IP+":9701", "--token", c.token(map[string]any{"role": "server"}))
		}
		s.start()
		c.servers = append(c.servers, s)
	}
	return c
}

func (c *cluster) token(want map[string]any) string {
	c.t.Helper()
	var token struct{ Token string }
	want["uses"] = 1
	eventually(c.t, 30*time.Second, "no token", func() error {
		return c.servers[0].do(http.MethodPost, "/v1/tokens", want, &token)
	})
	return token.Token
}

func (c *cluster) addresses() (out []string) {
	for _, s := range c.servers {
		out = append(out, s.host.IP)
	}
	return out
}

// holding returns the server that an agent talks to, as s knows it.
func (c *cluster) holding(s *server, agent string) (*server, error) {
	h, err := s.machine(agent)
	if err != nil {
		return nil, err
	}
	var nodes struct{ Items []struct{ ID, Name string } }
	if err := s.get("/v1/nodes", &nodes); err != nil {
		return nil, err
	}
	for _, n := range nodes.Items {
		for _, x := range c.servers {
			if n.ID == h.Server && n.Name == x.host.Name {
				return x, nil
			}
		}
	}
	return nil, fmt.Errorf("%s talks to nobody: %+v", agent, h)
}

// machine is what a server says of a host.
type machine struct {
	ID, Name, Status, Code, Message, Server string
	Alerts                                  int
	Reachable                               bool
	Checks                                  bool
	Evidence                                []struct {
		Target, Prober, Message string
		Answers                 bool
	}
	Usage *struct{ Memory, CPU *float64 }
}

func (s *server) machine(name string) (h machine, err error) {
	err = s.get("/v1/hosts/"+name, &h)
	return h, err
}

// is waits until a server says that a host is in a state.
func (s *server) is(agent, status string, limit time.Duration) (h machine) {
	s.t.Helper()
	eventually(s.t, limit, agent+" is not "+status, func() (err error) {
		if h, err = s.machine(agent); err != nil {
			return err
		}
		if h.Status != status {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
	return h
}

// times are those of the samples of one series, in ms.
func (s *server) times(selector string) ([]int64, error) {
	var answer struct {
		Data struct {
			Result []struct{ Values [][2]any }
		}
	}
	if err := s.get("/api/v1/query?query="+url.QueryEscape(selector), &answer); err != nil {
		return nil, err
	}
	if len(answer.Data.Result) != 1 {
		return nil, fmt.Errorf("%s has %d series", selector, len(answer.Data.Result))
	}
	var out []int64
	for _, v := range answer.Data.Result[0].Values {
		sec, ok := v[0].(float64)
		if !ok {
			return nil, fmt.Errorf("strange time %v", v[0])
		}
		out = append(out, int64(sec*1000+0.5))
	}
	return out, nil
}

// scalar is the value of a query that gives one.
func (s *server) scalar(expr string) (float64, error) {
	var answer struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if err := s.get("/api/v1/query?query="+url.QueryEscape(expr), &answer); err != nil {
		return 0, err
	}
	if len(answer.Data.Result) == 0 {
		return 0, nil
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	return strconv.ParseFloat(text, 64)
}

// eventually waits until fn succeeds.
func eventually(t *testing.T, limit time.Duration, what string, fn func() error) {
	t.Helper()
	var last error
	require.Eventually(t, func() bool { last = fn(); return last == nil }, max(limit, 40*time.Second), 100*time.Millisecond, "%s: %v", what, lazily{&last})
}

// lazily prints an error as it is when it is printed.
type lazily struct{ err *error }

func (l lazily) String() string {
	if *l.err == nil {
		return "(it was, too late)"
	}
	return (*l.err).Error()
}
