//go:build fault && linux

package fault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"panoptes/test/harness"
)

// client speaks to one server with the administrator's key.
type client struct {
	url  string
	http *http.Client
}

func newClient(url string, timeout time.Duration) *client {
	return &client{url: url, http: &http.Client{Timeout: timeout, Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: time.Second}).DialContext,
		MaxIdleConnsPerHost: 8,
	}}}
}

// do sends a request. A body that is not nil and not []byte is sent as JSON.
func (c *client) do(method, path string, body any, header ...string) (int, []byte, error) {
	var r io.Reader
	kind := ""
	switch b := body.(type) {
	case nil:
	case []byte:
		r = bytes.NewReader(b)
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return 0, nil, err
		}
		r, kind = bytes.NewReader(data), "application/json"
	}
	req, err := http.NewRequest(method, c.url+path, r)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+harness.APIKey)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, data, err
}

// get decodes the answer to a GET.
func (c *client) get(path string, out any) error {
	return c.call(http.MethodGet, path, nil, out)
}

// call sends a request that must succeed and decodes the answer, unless out is nil.
func (c *client) call(method, path string, body, out any) error {
	code, data, err := c.do(method, path, body)
	if err != nil {
		return err
	}
	if code/100 != 2 {
		return fmt.Errorf("%s %s%s: %d %s", method, c.url, path, code, clip(data))
	}
	if out == nil || len(data) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s %s%s: %w: %s", method, c.url, path, err, clip(data))
	}
	return nil
}

func clip(b []byte) string {
	if len(b) > 300 {
		return string(b[:300]) + "…"
	}
	return string(b)
}

// point is one sample of a query's answer.
type point struct {
	ms    int64
	value float64
}

// series is one series of a query's answer.
type series struct {
	labels map[string]string
	points []point
}

// query evaluates an instant query at a time; a range selector gives raw samples.
func (c *client) query(expr string, at time.Time) ([]series, error) {
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
				Values [][2]any
			}
		}
	}
	form := url.Values{"query": {expr}, "time": {strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64)}}
	if err := c.get("/api/v1/query?"+form.Encode(), &answer); err != nil {
		return nil, err
	}
	out := make([]series, 0, len(answer.Data.Result))
	for _, r := range answer.Data.Result {
		s := series{labels: r.Metric}
		if r.Values == nil {
			r.Values = [][2]any{r.Value}
		}
		for _, v := range r.Values {
			sec, ok := v[0].(float64)
			text, ok2 := v[1].(string)
			if !ok || !ok2 {
				return nil, fmt.Errorf("query %s: strange sample %v", expr, v)
			}
			f, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return nil, fmt.Errorf("query %s: %w", expr, err)
			}
			s.points = append(s.points, point{int64(sec*1000 + 0.5), f})
		}
		out = append(out, s)
	}
	return out, nil
}
