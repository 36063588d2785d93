package http

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	nethttp "net/http"
	"net/http/cookiejar"
	"net/url"
	"sync"
	"time"

	"panoptes/internal/probe"
	"panoptes/internal/probe/condition"
	"panoptes/internal/probe/tlsinfo"
)

type httpProbe struct {
	env        *probe.Env
	cfg        Config
	url        *url.URL
	method     string
	header     nethttp.Header // sent to every host
	secret     nethttp.Header // sent to the target's own host
	first      []byte         // the first request, ready to be written
	tls        *tls.Config
	proxy      *url.URL
	redirects  int
	limit      int64
	statuses   []statusRange
	headers    []headerExpect
	json       []jsonExpect
	expect     *probe.Pattern
	reject     *probe.Pattern
	conditions []*condition.Condition

	tokenURL *url.URL
	token    token
}

// state is what one run has learned so far.
type state struct {
	route       probe.Route
	phases      [5]time.Duration // resolve, connect, tls, processing, transfer; summed over redirects
	hops        int
	resp        *nethttp.Response
	body        []byte
	truncated   bool
	facts       *tlsinfo.Facts
	total       time.Duration
	regexFailed bool
	jar         *cookiejar.Jar
	auth        string // value of Authorization by OAuth 2
}

var phaseLabels = [5][]string{{"phase", "resolve"}, {"phase", "connect"}, {"phase", "tls"}, {"phase", "processing"}, {"phase", "transfer"}}

var errRedirects = errors.New("too many redirects")

func (p *httpProbe) now() time.Time {
	if p.env.Now != nil {
		return p.env.Now()
	}
	return time.Now()
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// Run implements probe.Probe.
func (p *httpProbe) Run(ctx context.Context) probe.Outcome {
	buf := buffers.Get().(*[]byte)
	st := state{body: (*buf)[:0]}
	start := time.Now()
	err := p.follow(ctx, &st)
	st.total = time.Since(start)
	var out probe.Outcome
	if err != nil {
		out.Message, out.Untried = message(err), probe.Untried(err)
		if st.facts == nil {
			st.facts = tlsinfo.FromError(err)
		}
	} else {
		p.judge(&st, &out)
	}
	out.Samples = p.samples(&st, err)
	if !out.Success || out.Degraded {
		out.Evidence = p.evidence(&st, err)
	}
	if cap(st.body) <= 64<<10 {
		*buf = st.body[:0]
		buffers.Put(buf)
	}
	return out
}

// stageError says in which stage a request failed.
type stageError struct {
	stage string
	err   error
}

func (e *stageError) Error() string { return e.stage + ": " + e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }

func message(err error) string {
	var se *stageError
	if !errors.As(err, &se) {
		return probe.Reason(err)
	}
	switch se.stage {
	case "tls":
		return tlsinfo.Reason(se.err)
	case "connect":
		return probe.Reason(se.err)
	}
	return se.stage + ": " + probe.Reason(se.err)
}

// follow makes the request and those that redirects ask for.
func (p *httpProbe) follow(ctx context.Context, st *state) error {
	u, method, withBody := p.url, p.method, true
	raw := p.first
	bearer, kept := "", false
	authorize := func() (err error) {
		if bearer, kept, err = p.accessToken(ctx); err == nil {
			st.auth, raw = "Bearer "+bearer, nil
		}
		return err
	}
	if p.tokenURL != nil {
		if err := authorize(); err != nil {
			return err
		}
	}
	for {
		req := p.request(u, method, withBody)
		if st.auth != "" && p.trusts(u) {
			req.header.Set("Authorization", st.auth)
		}
		if st.jar != nil {
			for _, c := range st.jar.Cookies(u) {
				req.cookies = append(req.cookies, c.Name+"="+c.Value)
			}
			raw = nil
		}
		if raw == nil {
			raw = p.render(req)
		}
		if err := p.exchange(ctx, req, raw, st); err != nil {
			return err
		}
		raw = nil
		if st.auth != "" && p.trusts(u) && st.resp.StatusCode == nethttp.StatusUnauthorized {
			p.refuse(bearer)
			if kept { // once more with a new one, which says whether that was the fault
				if err := authorize(); err != nil {
					return err
				}
				kept = false
				continue
			}
		}
		loc := st.resp.Header.Get("Location")
		code := st.resp.StatusCode
		if p.redirects == 0 || loc == "" || code != 301 && code != 302 && code != 303 && code != 307 && code != 308 {
			return nil
		}
		if st.hops == p.redirects {
			return fmt.Errorf("%w: more than %d", errRedirects, p.redirects)
		}
		st.hops++
		next, err := u.Parse(loc)
		if err == nil {
			next, err = parseURL(next.String(), "http", "https")
		}
		if err != nil {
			return &stageError{"redirect", fmt.Errorf("the target of the redirect %w", err)}
		}
		if cookies := st.resp.Cookies(); len(cookies) > 0 {
			if st.jar == nil {
				if st.jar, err = cookiejar.New(nil); err != nil {
					return err
				}
			}
			st.jar.SetCookies(u, cookies)
		}
		if code <= 303 && method != "GET" && method != "HEAD" {
			method, withBody = "GET", false
		}
		u = next
	}
}

func (p *httpProbe) samples(st *state, err error) []probe.Sample {
	out := make([]probe.Sample, 0, 24)
	out = st.route.Samples(out)
	for i, d := range st.phases {
		out = append(out, probe.Sample{Name: "probe_http_duration_seconds", Labels: phaseLabels[i], Value: d.Seconds()})
	}
	status, version, ssl := 0.0, 0.0, 0.0
	length, modified := -1.0, 0.0
	if r := st.resp; r != nil {
		status, length = float64(r.StatusCode), float64(r.ContentLength)
		version = float64(r.ProtoMajor) + float64(r.ProtoMinor)/10
		if h := r.Header.Get("Last-Modified"); h != "" {
			if t, terr := nethttp.ParseTime(h); terr == nil {
				modified = float64(t.Unix())
			}
		}
	}
	if st.facts != nil && err == nil {
		ssl = 1
	}
	out = append(out,
		probe.Sample{Name: "probe_http_status_code", Value: status},
		probe.Sample{Name: "probe_http_version", Value: version},
		probe.Sample{Name: "probe_http_redirects", Value: float64(st.hops)},
		probe.Sample{Name: "probe_http_ssl", Value: ssl},
		probe.Sample{Name: "probe_http_content_length", Value: length},
		probe.Sample{Name: "probe_http_uncompressed_body_length", Value: float64(len(st.body))},
		probe.Sample{Name: "probe_failed_due_to_regex", Value: number(st.regexFailed)})
	if modified > 0 {
		out = append(out, probe.Sample{Name: "probe_http_last_modified_timestamp_seconds", Value: modified})
	}
	return st.facts.Samples(out)
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Evidence is kept of a run that failed.
type Evidence struct {
	Address   string             `json:"address,omitempty"`
	Phases    map[string]float64 `json:"phases"` // seconds
	Status    int                `json:"status,omitempty"`
	Headers   map[string]string  `json:"headers,omitempty"`
	Body      string             `json:"body,omitempty"` // first KiB
	Truncated bool               `json:"truncated,omitempty"`
	TLS       *tlsinfo.Facts     `json:"tls,omitempty"`
	Error     string             `json:"error,omitempty"`
}

func (p *httpProbe) evidence(st *state, err error) *Evidence {
	e := &Evidence{Phases: map[string]float64{}, TLS: st.facts, Truncated: st.truncated}
	if st.route.Addr.IsValid() {
		e.Address = st.route.Addr.String()
	}
	for i, d := range st.phases {
		e.Phases[phaseLabels[i][1]] = d.Seconds()
	}
	if err != nil {
		e.Error = probe.Line(err.Error())
	}
	if st.resp != nil {
		e.Status = st.resp.StatusCode
		e.Headers = map[string]string{}
		for k := range st.resp.Header {
			if k != "Set-Cookie" && len(e.Headers) < 40 {
				e.Headers[probe.Line(k)] = probe.Line(st.resp.Header.Get(k))
			}
		}
		b := string(st.body[:min(len(st.body), 1024)])
		e.Body = b
	}
	return e
}
