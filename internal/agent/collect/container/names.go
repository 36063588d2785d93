package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"panoptes/internal/agent/collect/metric"
)

// Names asks the sockets of Docker or Podman for the names, images, restarts
// and health of containers. It reads only, beside the rounds: an engine that
// hangs does not hold them.
type Names struct {
	clients []*http.Client
	every   time.Duration
	ctx     context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup

	mu     sync.Mutex
	busy   bool
	due    time.Time
	byID   map[string]info
	err    error
	closed bool
}

type info struct {
	name, image, state, health string
	restarts                   float64
	status                     string
}

const (
	socketTimeout = 5 * time.Second
	maxAnswer     = 8 << 20
	maxContainers = 1000
)

var fullID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// NewNames makes the readers of the sockets.
func NewNames(sockets []string) *Names {
	n := &Names{every: 30 * time.Second, byID: map[string]info{}}
	n.ctx, n.stop = context.WithCancel(context.Background())
	for _, s := range sockets {
		path := strings.TrimPrefix(s, "unix://")
		n.clients = append(n.clients, &http.Client{
			Timeout: socketTimeout,
			Transport: &http.Transport{
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					var d net.Dialer
					return d.DialContext(ctx, "unix", path)
				},
				DisableKeepAlives: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		})
	}
	return n
}

func (n *Names) close() {
	n.stop()
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.wg.Wait()
}

// refresh asks in the background when it is time.
func (n *Names) refresh() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.busy || n.closed || time.Now().Before(n.due) {
		return
	}
	n.busy, n.due = true, time.Now().Add(n.every)
	n.wg.Go(func() {
		found, err := n.ask()
		n.mu.Lock()
		defer n.mu.Unlock()
		n.busy, n.err = false, err
		if err == nil || len(found) > 0 {
			n.byID = found
		}
	})
}

func (n *Names) of(id string) (name, image string) {
	if n == nil {
		return "", ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	i := n.byID[id]
	return i.name, i.image
}

func (n *Names) any() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.byID) > 0
}

var healths = [...]string{"healthy", "unhealthy", "starting"}

// emit adds what only the engine knows.
func (n *Names) emit(out *metric.Batch) {
	n.mu.Lock()
	defer n.mu.Unlock()
	out.Bool("panoptes_agent_container_engine_up", n.err == nil)
	for _, id := range metric.SortedKeys(n.byID) {
		i := n.byID[id]
		out.Add("panoptes_agent_container_state", 1, "name", i.name, "image", i.image, "state", i.state)
		out.Add("panoptes_agent_container_restarts_total", i.restarts, "name", i.name)
		if i.health != "" {
			for _, h := range healths {
				out.Bool("panoptes_agent_container_health", i.health == h, "name", i.name, "state", h)
			}
		}
	}
}

func (n *Names) ask() (map[string]info, error) {
	out := map[string]info{}
	var errs []error
	n.mu.Lock()
	old := n.byID
	n.mu.Unlock()
	for _, c := range n.clients {
		var list []struct {
			ID            string `json:"Id"`
			Names         []string
			Image         string
			State, Status string
		}
		if err := n.get(c, "/containers/json?all=1&limit=1000", &list); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, x := range list {
			// The id comes back in a path: nothing but an id is let through.
			if !fullID.MatchString(x.ID) || len(out) >= maxContainers {
				continue
			}
			i := info{image: x.Image, state: x.State, status: x.Status}
			if len(x.Names) > 0 {
				i.name = strings.TrimPrefix(x.Names[0], "/")
			}
			for _, h := range healths {
				if strings.Contains(x.Status, "("+h) || strings.Contains(x.Status, "health: "+h) {
					i.health = h
				}
			}
			if was, ok := old[x.ID]; ok && was.state == i.state && !restarted(was.status, i.status) {
				i.restarts = was.restarts
			} else {
				var one struct{ RestartCount float64 }
				if err := n.get(c, "/containers/"+x.ID+"/json", &one); err == nil {
					i.restarts = one.RestartCount
				}
			}
			out[x.ID] = i
		}
	}
	return out, errors.Join(errs...)
}

// restarted says whether the text "Up 3 minutes" may have begun anew.
func restarted(was, now string) bool {
	return was != now && (strings.Contains(now, "second") || strings.Contains(now, "minute") || !strings.HasPrefix(now, "Up"))
}

func (n *Names) get(c *http.Client, path string, into any) error {
	ctx, cancel := context.WithTimeout(n.ctx, socketTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine"+path, nil)
	if err != nil {
		return fmt.Errorf("ask the container engine: %w", err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("ask the container engine: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the container engine for %s: it answered %s", path, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("read the container engine's answer: %w", err)
	}
	return nil
}
