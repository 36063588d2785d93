package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"panoptes/internal/model"
)

const (
	socketTimeout = 5 * time.Second
	maxAnswer     = 1 << 20
)

// containers asks the sockets of Docker or Podman that the host's own file names.
type containers struct{ clients []*http.Client }

func newContainers(sockets []string) *containers {
	c := &containers{}
	for _, s := range sockets {
		path := strings.TrimPrefix(s, "unix://")
		c.clients = append(c.clients, &http.Client{
			Transport: &http.Transport{
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return (&net.Dialer{}).DialContext(ctx, "unix", path)
				},
				DisableKeepAlives: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		})
	}
	return c
}

// described is what an engine says of a container.
type described struct {
	ID           string `json:"Id"`
	Name         string
	RestartCount float64
	State        struct {
		Status    string
		Running   bool
		OOMKilled bool
		ExitCode  int
		StartedAt time.Time
		Health    *struct{ Status string }
	}
}

var fullID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// find looks for a container by its exact name. One that no engine has is not
// an error, unless one of them did not answer.
func (c *containers) find(ctx context.Context, name string) (*http.Client, *described, error) {
	var errs []error
	for _, cl := range c.clients {
		var d described
		code, err := c.call(ctx, cl, http.MethodGet, "/containers/"+url.PathEscape(name)+"/json", &d)
		switch {
		case err != nil:
			errs = append(errs, err)
		case code == http.StatusOK && strings.TrimPrefix(d.Name, "/") == name && fullID.MatchString(d.ID):
			return cl, &d, nil
		case code != http.StatusOK && code != http.StatusNotFound:
			errs = append(errs, fmt.Errorf("the engine answers %d", code))
		}
	}
	return nil, nil, errors.Join(errs...)
}

// Status implements Manager.
func (c *containers) Status(ctx context.Context, s model.HostService) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, socketTimeout)
	defer cancel()
	_, d, err := c.find(ctx, s.Name)
	if err != nil {
		return Status{}, fmt.Errorf("ask the container engine: %w", err)
	}
	if d == nil {
		return Status{Text: "no such container"}, nil
	}
	st := Status{Up: d.State.Running, Count: d.RestartCount, Text: d.State.Status}
	switch {
	case d.State.Running && d.State.Health != nil && d.State.Health.Status == "unhealthy":
		st.Up, st.Failed, st.Text = false, true, "unhealthy"
	case !d.State.Running && (d.State.Status == "exited" || d.State.Status == "dead"):
		// 137 and 143 is how those end that were told to.
		st.Failed = d.State.OOMKilled || d.State.ExitCode != 0 && d.State.ExitCode != 137 && d.State.ExitCode != 143
		st.Text = fmt.Sprintf("%s (%d)", d.State.Status, d.State.ExitCode)
	}
	if st.Up {
		st.Start = d.State.StartedAt
	}
	return st, nil
}

// Restart implements Manager.
func (c *containers) Restart(ctx context.Context, name string) error {
	cl, d, err := c.find(ctx, name)
	switch {
	case err != nil:
		return fmt.Errorf("ask the container engine: %w", err)
	case d == nil:
		return fmt.Errorf("container %s: %w", name, model.ErrNotFound)
	}
	code, err := c.call(ctx, cl, http.MethodPost, "/containers/"+d.ID+"/restart?t=10", nil)
	if err != nil {
		return fmt.Errorf("restart container %s: %w", name, err)
	}
	if code != http.StatusNoContent && code != http.StatusOK {
		return fmt.Errorf("restart container %s: the engine answers %d", name, code)
	}
	return nil
}

func (c *containers) call(ctx context.Context, cl *http.Client, method, path string, into any) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := cl.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if into == nil || resp.StatusCode != http.StatusOK {
		return resp.StatusCode, nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return 0, fmt.Errorf("read the answer: %w", err)
	}
	return resp.StatusCode, nil
}
