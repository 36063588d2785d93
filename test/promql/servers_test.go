//go:build e2e

package promql

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"panoptes/internal/run"
	"panoptes/test/harness"
)

// patience is how long a server may take for what it does in a second.
const patience = 60 * time.Second

// program is one process of a server. Its data directory outlives it.
type program struct {
	bin, name string
	args      []string
	base      string // where its API is
	log       *harness.LogBuffer
	cmd       *exec.Cmd
	ended     chan struct{}
}

// start runs the process and waits until it is ready.
func (p *program) start() error {
	cmd := exec.Command(p.bin, p.args...)
	// The scripts' samples are of the year 1970, and some of their functions
	// must be turned on.
	cmd.Env = append(os.Environ(), "PANOPTES_API_KEY="+harness.APIKey, "PANOPTES_ADMIN_PASSWORD="+harness.Password,
		"PANOPTES_STORAGE_MIN_FREE=16MB", "PANOPTES_STORAGE_CONTROL_RESERVE=16MB", "PANOPTES_INGEST_SERIES_PER_SOURCE=1000000",
		"PANOPTES_STORAGE_RETENTION_TIME=200y", "PANOPTES_STORAGE_OUT_OF_ORDER_WINDOW=100y", "PANOPTES_QUERY_EXPERIMENTAL=true")
	cmd.Stdout, cmd.Stderr = p.log, p.log
	run.EndWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		// How it ended stands in its log.
		_ = cmd.Wait()
		close(ended)
	}()
	p.cmd, p.ended = cmd, ended
	return p.wait("it is not ready", func() bool {
		res, err := http.Get(p.base + "/-/ready")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// wait asks until what is asked holds, the process ends or patience does.
func (p *program) wait(what string, holds func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-p.ended:
			return fmt.Errorf("%s ended:\n%s", p.name, p.log)
		case <-limit:
			return fmt.Errorf("%s: %s:\n%s", p.name, what, p.log)
		}
	}
	return nil
}

// kill ends the process with SIGKILL.
func (p *program) kill() {
	if p.cmd == nil {
		return
	}
	// It may have ended by itself.
	_ = p.cmd.Process.Kill()
	<-p.ended
	p.cmd = nil
}

// call sends JSON and decodes the answer.
func (p *program) call(method, path string, body, out any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(method, p.base+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+harness.APIKey)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %d %s", method, path, res.StatusCode, answer)
	}
	return json.Unmarshal(answer, out)
}

// cluster is three processes that are one cluster.
type cluster struct {
	dir     string
	servers [3]*program
	release func() // of the ports
}

// newCluster starts the servers one after the other.
func newCluster(bin, dir string) (*cluster, error) {
	offset, release, err := harness.FreeOffset(30)
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, release: release}
	var token struct{ Token string }
	for i := range c.servers {
		name, shift := "n"+strconv.Itoa(i+1), offset+10*i
		p := &program{bin: bin, name: name, base: fmt.Sprintf("http://127.0.0.1:%d", 9700+shift), log: &harness.LogBuffer{},
			args: []string{"server", "--node", name, "--region", name, "--data-dir", filepath.Join(dir, name), "--port-offset", strconv.Itoa(shift), "--log-level", "warn"}}
		if i > 0 {
			p.args = append(p.args, "--join", fmt.Sprintf("127.0.0.1:%d", 9701+offset), "--token", token.Token)
		}
		c.servers[i] = p
		if err := p.start(); err != nil {
			return c, err
		}
		if i == 0 {
			if err := p.call(http.MethodPost, "/v1/tokens", map[string]any{"role": "server", "uses": 2}, &token); err != nil {
				return c, err
			}
		}
	}
	for _, p := range c.servers {
		var err error
		if wait := p.wait("it does not see three whole servers", func() bool {
			var nodes struct {
				Items []struct {
					State string
					Copy  struct{ Complete bool }
				}
			}
			err = p.call(http.MethodGet, "/v1/nodes", nil, &nodes)
			alive := 0
			for _, n := range nodes.Items {
				if n.State == "alive" && n.Copy.Complete {
					alive++
				}
			}
			return alive == len(c.servers)
		}); wait != nil {
			return c, errors.Join(wait, err)
		}
	}
	return c, nil
}

func (c *cluster) close() error {
	for _, p := range c.servers {
		if p != nil {
			p.kill()
		}
	}
	c.release()
	return os.RemoveAll(c.dir)
}

// pool starts clusters ahead of those who need an empty one.
type pool struct {
	made  chan made
	stop  chan struct{}
	ended chan struct{}
}

type made struct {
	c   *cluster
	err error
}

func newPool(t testing.TB) *pool {
	bin, base := harness.Binary(t), t.TempDir()
	p := &pool{made: make(chan made), stop: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		for i := 0; ; i++ {
			select {
			case <-p.stop:
				return
			default:
			}
			var m made
			m.c, m.err = newCluster(bin, filepath.Join(base, strconv.Itoa(i)))
			select {
			case p.made <- m:
			case <-p.stop:
				if m.c != nil {
					_ = m.c.close() // its directory is removed with that of the test
				}
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(p.stop)
		<-p.ended
	})
	return p
}

// take returns a cluster that nobody wrote to.
func (p *pool) take() (*cluster, error) {
	m := <-p.made
	return m.c, m.err
}
