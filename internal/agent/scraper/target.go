package scraper

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// accept asks for the formats that are read here.
const accept = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.9,*/*;q=0.1"

// target is one address that is scraped. It belongs to its goroutine.
type target struct {
	job    uplink.ScrapeJob
	url    string
	key    string // what it is: another key is another target
	client *http.Client
	slots  chan struct{} // of all targets together: one is held while an answer is read
	own    []pair        // labels of all its series

	known  map[string]*series
	round  uint32
	fails  bool
	report [5]labels.Labels
	long   series           // stands for all series whose labels are too long
	left   int              // samples of such series in this round
	leaves bool             // there were some in the round before
	room   func(n int) bool // asks for room for more series, or gives it back
}

// series is what is remembered of one series of a target.
type series struct {
	labels labels.Labels
	first  uint32 // the round in which it was seen first
	round  uint32 // and last
	timed  bool   // it has its own times: its end is not told
	skip   bool   // not an agent's to write
}

// newTarget makes the target of an address, or of the job's URL.
func newTarget(job uplink.ScrapeJob, addr string, client *http.Client, room func(int) bool) *target {
	u := &url.URL{Scheme: job.Scheme, Host: addr, Path: job.Path, RawQuery: url.Values(job.Params).Encode()}
	if job.URL != "" {
		p, err := url.Parse(job.URL)
		if err != nil {
			p = &url.URL{}
		}
		q := p.Query()
		for k, v := range job.Params {
			q[k] = v
		}
		u = &url.URL{Scheme: p.Scheme, Host: p.Host, Path: p.Path, RawQuery: q.Encode()}
	}
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	if u.Path == "" {
		u.Path = "/metrics"
	}
	t := &target{job: job, url: u.String(), client: client, known: map[string]*series{}, room: room, long: series{skip: true}}
	t.own = []pair{{"job", job.Job}, {"instance", instance(u)}}
	for k, v := range job.Labels {
		t.own = slices.DeleteFunc(t.own, func(p pair) bool { return p.name == k })
		t.own = append(t.own, pair{k, v})
	}
	for i, name := range [...]string{"up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"} {
		t.report[i] = t.label(name, nil)
	}
	return t
}

// instance is the address; one on this host is written as ":port", for which
// the servers put the host's name.
func instance(u *url.URL) string {
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.Unmap().IsLoopback() {
		return ":" + port
	}
	return net.JoinHostPort(host, port)
}

// reserved are labels that the servers set or use for something else.
var reserved = []string{"host", model.LabelRegion, model.LabelCheck, "check_id", model.LabelProber, "alertname", "severity"}

// label makes the labels of a series: where target and job say both the same,
// the job wins, unless the target's labels are to be honored.
func (t *target) label(name string, said []pair) labels.Labels {
	b := labels.NewBuilder(labels.EmptyLabels())
	b.Set(model.MetricName, name)
	for _, p := range t.own {
		b.Set(p.name, p.value)
	}
	has := func(n string) bool { return slices.ContainsFunc(said, func(p pair) bool { return p.name == n }) }
	for _, p := range said {
		taken := slices.ContainsFunc(t.own, func(o pair) bool { return o.name == p.name }) && !t.job.HonorLabels
		switch {
		case p.value == "" || strings.HasPrefix(p.name, "__"):
			continue
		case slices.Contains(reserved, p.name) || taken:
			n := "exported_" + p.name
			for has(n) {
				n = "exported_" + n
			}
			b.Set(n, p.value)
		default:
			b.Set(p.name, p.value)
		}
	}
	return b.Labels()
}

// foreign are names that an agent may not write.
func foreign(name string) bool {
	return name == "ALERTS" || name == "ALERTS_FOR_STATE" || strings.HasPrefix(name, "probe_") || strings.HasPrefix(name, "panoptes_")
}

// What servers take of the labels of a series, in bytes.
const (
	maxName  = 200
	maxValue = 2048
	maxText  = 8 << 10 // of all its names and values
)

// tooLong reports whether no server would take the series.
func tooLong(ls labels.Labels) bool {
	total, long := 0, false
	ls.Range(func(l labels.Label) {
		total += len(l.Name) + len(l.Value)
		long = long || len(l.Name) > maxName || len(l.Value) > maxValue
	})
	return long || total > maxText
}

// scrape asks the target once. The samples are the caller's.
func (t *target) scrape(ctx context.Context, at int64) (model.Batch, error) {
	began := time.Now()
	out := make(model.Batch, 0, len(t.known)+8)
	t.round++
	t.left = 0
	before := len(t.known)
	kept, count, err := t.fetch(ctx, at, &out)
	if ctxErr := context.Cause(ctx); err != nil && errors.Is(ctxErr, context.Canceled) {
		return nil, ctxErr
	}
	unsent := uint32(0)
	if err != nil {
		out = out[:0]
		unsent = t.round
		t.round++ // none was seen
	}
	out = t.ended(out, at, unsent)
	up, added := 1.0, max(len(t.known)-before, 0)
	if err != nil {
		up, kept, count, added = 0, 0, 0, 0
	}
	for i, v := range [...]float64{up, time.Since(began).Seconds(), float64(count), float64(kept), float64(added)} {
		out = append(out, model.Sample{Labels: t.report[i], T: at, V: v})
	}
	return out, err
}

// fetch reads one answer.
func (t *target) fetch(ctx context.Context, at int64, out *model.Batch) (kept, count int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "panoptes-agent")
	if d, ok := ctx.Deadline(); ok {
		req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", fmt.Sprintf("%g", time.Until(d).Seconds()))
	}
	if err := t.authorize(req); err != nil {
		return 0, 0, err
	}
	resp, err := t.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return 0, 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return 0, 0, fmt.Errorf("answers %s: redirects are not followed; name the address that it leads to", resp.Status)
	case resp.StatusCode != http.StatusOK:
		return 0, 0, fmt.Errorf("answers %s", resp.Status)
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case err != nil, kind == "text/plain", kind == "application/openmetrics-text":
	default:
		return 0, 0, fmt.Errorf("answers in %.60q, which is neither Prometheus' text format nor OpenMetrics", kind)
	}
	// Until the answer itself comes a target holds nothing that others wait for: it
	// may never come.
	answer := bufio.NewReaderSize(resp.Body, 512)
	if _, err := answer.Peek(1); err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	limit := t.job.MaxSamples
	if limit == 0 {
		limit = defaultSamples
	}
	body := &bounded{r: answer, left: maxBody}
	err = eachLine(body, kind == "application/openmetrics-text", func(l line) error {
		if count++; count > limit {
			return fmt.Errorf("%w: more than %d samples; raise max_samples or have the target expose fewer", model.ErrLimit, limit)
		}
		s, err := t.find(l)
		if err != nil {
			return err
		}
		if s.round == t.round && !l.timed {
			return nil // there twice
		}
		s.round, s.timed = t.round, l.timed && t.job.HonorTimestamps
		if s.skip {
			return nil
		}
		x := model.Sample{Labels: s.labels, T: at, V: l.value}
		if s.timed {
			x.T = l.time
		}
		*out = append(*out, x)
		kept++
		return nil
	})
	return kept, count, err
}

// find returns what is known of a series, which is made known.
func (t *target) find(l line) (*series, error) {
	if s := t.known[string(l.series)]; s != nil {
		return s, nil
	}
	text := string(l.series)
	name, pairs, err := parseSeries(text)
	if err != nil {
		return nil, err
	}
	skip, ls := foreign(name), labels.EmptyLabels()
	if !skip {
		if ls = t.label(name, pairs); tooLong(ls) {
			t.left++
			return &t.long, nil
		}
	}
	if !t.room(1) {
		return nil, fmt.Errorf("%w: the targets of this host have too many series together; raise scrape.max_series in the agent's file", model.ErrLimit)
	}
	s := &series{labels: ls, skip: skip, first: t.round}
	t.known[text] = s
	return s, nil
}

// ended tells the end of the series that were not seen in this round, but not of
// those that came in a round whose samples were given up.
func (t *target) ended(out model.Batch, at int64, unsent uint32) model.Batch {
	for text, s := range t.known {
		if s.round == t.round {
			continue
		}
		if !s.skip && !s.timed && s.first != unsent {
			out = append(out, stale(s.labels, at))
		}
		delete(t.known, text)
		t.room(-1)
	}
	return out
}

// end tells the end of all that the target had: it is not scraped any more.
func (t *target) end(at int64) model.Batch {
	t.round++
	out := t.ended(make(model.Batch, 0, len(t.known)+len(t.report)), at, 0)
	for _, l := range t.report {
		out = append(out, stale(l, at))
	}
	return out
}

func stale(l labels.Labels, at int64) model.Sample {
	return model.Sample{Labels: l, T: at, V: math.Float64frombits(value.StaleNaN)}
}

// authorize adds who asks.
func (t *target) authorize(req *http.Request) error {
	j := &t.job
	bearer, password := j.Bearer.Reveal(), j.Password.Reveal()
	var err error
	if j.BearerFile != "" {
		bearer, err = secretFile(j.BearerFile)
	}
	if j.PasswordFile != "" && err == nil {
		password, err = secretFile(j.PasswordFile)
	}
	switch {
	case err != nil:
		return err
	case bearer != "":
		req.Header.Set("Authorization", "Bearer "+bearer)
	case j.Username != "" || password != "":
		req.SetBasicAuth(j.Username, password)
	}
	return nil
}

// secretFile is read each time: it may be renewed.
func secretFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, 16<<10))
	return strings.TrimSpace(string(b)), err
}

// bounded is a reader that fails when there is more than allowed.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: the answer has more than %d bytes", model.ErrTooLarge, maxBody)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
