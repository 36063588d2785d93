package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"panoptes/internal/model"
)

// The alerting part is spoken to through its own HTTP interface, which is
// Alertmanager's: alerts and silences need no second way in.

// amMatcher is a matcher as that interface writes it.
type amMatcher struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	IsRegex bool   `json:"isRegex"`
	IsEqual *bool  `json:"isEqual,omitempty"`
}

type amSilence struct {
	ID        string      `json:"id,omitempty"`
	Matchers  []amMatcher `json:"matchers"`
	StartsAt  time.Time   `json:"startsAt"`
	EndsAt    time.Time   `json:"endsAt"`
	CreatedBy string      `json:"createdBy"`
	Comment   string      `json:"comment"`
	Status    *struct {
		State string `json:"state"`
	} `json:"status,omitempty"`
}

type amAlert struct {
	Fingerprint string            `json:"fingerprint"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
	Receivers   []struct {
		Name string `json:"name"`
	} `json:"receivers"`
	Status struct {
		State       string   `json:"state"`
		SilencedBy  []string `json:"silencedBy"`
		InhibitedBy []string `json:"inhibitedBy"`
	} `json:"status"`
}

// recorder takes an answer of the alerting part.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// callAlertmanager sends a request and decodes the answer into out, unless nil.
func (a *API) callAlertmanager(ctx context.Context, method, path string, in, out any) error {
	if a.deps.Alertmanager == nil {
		return missing("alerting")
	}
	var sent []byte
	if in != nil {
		var err error
		if sent, err = json.Marshal(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, path, bytes.NewReader(sent))
	if err != nil {
		return err
	}
	req.RequestURI = path
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	rec := &recorder{header: http.Header{}}
	a.deps.Alertmanager.ServeHTTP(rec, req)
	switch {
	case rec.status == http.StatusNotFound:
		return model.ErrNotFound
	case rec.status >= 500:
		return fmt.Errorf("%w: alerting answers %d", model.ErrUnavailable, rec.status)
	case rec.status >= 400:
		return invalid("", "%s", amMessage(rec.body.Bytes()))
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(rec.body.Bytes(), out); err != nil {
		return fmt.Errorf("read answer of alerting to %s %s: %w", method, path, err)
	}
	return nil
}

// amMessage takes the sentence out of an error, which is a JSON string or an object.
func amMessage(b []byte) string {
	var s string
	if json.Unmarshal(b, &s) == nil && s != "" {
		return s
	}
	var o struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(b, &o) == nil && o.Message != "" {
		return o.Message
	}
	return strings.TrimSpace(string(b[:min(len(b), 300)]))
}

// alertmanagerWrite hands a change to the alerting part and notes who made it.
func (a *API) alertmanagerWrite(w http.ResponseWriter, r *http.Request) {
	if a.deps.Alertmanager == nil {
		a.fail(w, r, missing("alerting"))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, applyLimit)
	a.deps.Alertmanager.ServeHTTP(w, r)
	sw, ok := w.(*statusWriter)
	if ok && sw.code() < 300 && strings.Contains(r.URL.Path, "/silence") {
		a.audit(r, "silence.write", "silence/"+r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:], "silences changed by "+r.Method+" "+r.URL.Path)
	}
}
