package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	defaultServer = "http://127.0.0.1:9700"
	maxAnswer     = 64 << 20
)

// client talks to the API of a server.
type client struct {
	io          IO
	server, key string // flags; empty: environment, login file, default
}

func (c *client) env(name string) string {
	for _, kv := range c.io.Env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// login is what `panoptes login` keeps.
type login struct {
	Server string `json:"server"`
	APIKey string `json:"api_key"`
}

func (c *client) loginFile() (string, error) {
	dir := c.env("XDG_CONFIG_HOME")
	if dir == "" {
		home := c.env("HOME")
		if home == "" {
			return "", errors.New("find the login file: HOME is not set; use --server and --api-key")
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "panoptes", "login.json"), nil
}

func (c *client) stored() login {
	var l login
	if path, err := c.loginFile(); err == nil {
		if data, err := os.ReadFile(path); err == nil {
			// A damaged login file is the same as none.
			_ = json.Unmarshal(data, &l)
		}
	}
	return l
}

// where returns the server and the key to use. A stored key is only sent to
// the server that it was stored for.
func (c *client) where() (server, key string) {
	stored := c.stored()
	server = strings.TrimRight(first(c.server, c.env("PANOPTES_SERVER"), stored.Server, defaultServer), "/")
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	key = first(c.key, c.env("PANOPTES_API_KEY"))
	if key == "" && server == strings.TrimRight(stored.Server, "/") {
		key = stored.APIKey
	}
	return server, key
}

func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// apiError is an error answer of a server.
type apiError struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field"`
	Fields  []struct {
		Field   string `json:"field"`
		Message string `json:"message"`
	} `json:"fields"`
}

func (e *apiError) Error() string {
	if len(e.Fields) > 1 {
		lines := make([]string, len(e.Fields))
		for i, f := range e.Fields {
			lines[i] = "  " + f.Field + ": " + f.Message
		}
		return "the server refused it:\n" + strings.Join(lines, "\n")
	}
	if e.Field != "" && !strings.HasPrefix(e.Message, e.Field) {
		return e.Field + ": " + e.Message
	}
	return e.Message
}

// request is one call of the API.
type request struct {
	method  string
	path    string // below the server, with its query
	body    any    // marshalled to JSON; nil for none
	header  http.Header
	auth    func(*http.Request) // instead of the key
	timeout time.Duration       // two minutes when it is 0
}

// forever is the timeout of what takes as long as it takes.
const forever time.Duration = -1

// do sends r and decodes the answer into out, when out is not nil.
func (c *client) do(ctx context.Context, r request, out any) (http.Header, error) {
	server, key := c.where()
	var body io.Reader
	if r.body != nil {
		b, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	if r.timeout == 0 {
		r.timeout = 2 * time.Minute
	}
	if r.timeout != forever {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, first(r.method, http.MethodGet), server+r.path, body)
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("--server %q is not an address; write for example %s", server, defaultServer)}
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("User-Agent", "panoptes/"+version)
	switch {
	case r.auth != nil:
		r.auth(req)
	case key != "":
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		if cert := (*tls.CertificateVerificationError)(nil); errors.As(err, &cert) {
			return nil, fmt.Errorf("cannot trust %s: %w (name the authority's certificate in SSL_CERT_FILE=FILE, and use a host that is in the server's certificate)", server, cert.Err)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("%s has not answered within %s; what was asked may go on there", server, r.timeout)
		}
		return nil, fmt.Errorf("cannot reach %s: %w (is the server running? another address: --server URL)", server, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", server, err)
	}
	if resp.StatusCode >= 300 {
		return resp.Header, c.failure(server, resp, data)
	}
	if out == nil || len(data) == 0 {
		return resp.Header, nil
	}
	if raw, ok := out.(*json.RawMessage); ok {
		*raw = data
		return resp.Header, nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return resp.Header, fmt.Errorf("%s does not answer like a Panoptes server: %w", server, err)
	}
	return resp.Header, nil
}

func (c *client) failure(server string, resp *http.Response, data []byte) error {
	var wrapped struct {
		Error json.RawMessage `json:"error"`
	}
	e := apiError{Status: resp.StatusCode}
	if json.Unmarshal(data, &wrapped) == nil && len(wrapped.Error) > 0 {
		if json.Unmarshal(wrapped.Error, &e) != nil {
			// The Prometheus API answers {"status":"error","error":"text"}.
			_ = json.Unmarshal(wrapped.Error, &e.Message)
		}
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("%s answered %s", server, resp.Status)
	}
	if resp.StatusCode == http.StatusUnauthorized {
		e.Message += " (give a key with --api-key or PANOPTES_API_KEY, or run `panoptes login`)"
	}
	code := exitFailed
	if resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusUnprocessableEntity {
		code = exitUsage
	}
	return &exitError{code, &e}
}

// list reads all pages of a list.
func (c *client) list(ctx context.Context, path string, query url.Values) ([]map[string]any, error) {
	if query == nil {
		query = url.Values{}
	}
	query.Set("limit", "500")
	var all []map[string]any
	for {
		var page struct {
			Items []map[string]any `json:"items"`
			Next  string           `json:"next"`
		}
		if _, err := c.do(ctx, request{path: path + "?" + query.Encode()}, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			return all, nil
		}
		query.Set("cursor", page.Next)
	}
}
