package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"

	"panoptes/internal/model"
)

const (
	retryFrom   = 30 * time.Millisecond
	retryTo     = 5 * time.Second
	retryMost   = 5 * time.Minute // what an engine may ask for
	searches    = 64              // requests spent on finding what the engine refuses in one
	answerBytes = 512
)

// answer is what the engine said to a request that it did not take.
type answer struct {
	code  int
	text  string
	after time.Duration // as it asked; 0: it did not
}

func (a *answer) Error() string {
	if a.text == "" {
		return fmt.Sprintf("the engine answered %d", a.code)
	}
	return fmt.Sprintf("the engine answered %d: %s", a.code, a.text)
}

// final reports whether the request itself is to blame, so that it would be
// refused again. A wrong address or key (401, 403, 404 and others) is not: the
// log keeps the samples until somebody mends it.
func (a *answer) final() bool {
	switch a.code {
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// divisible reports whether a part of the request may be fine: many engines
// refuse all of it because of one sample. After a conflict what was fine is
// stored.
func (a *answer) divisible() bool { return a.code != http.StatusConflict }

// deliver returns when the engine has taken the request or refused it for good,
// or ctx has ended.
func (e *Engine) deliver(ctx context.Context, req *prompb.WriteRequest) error {
	left := searches
	return e.search(ctx, req, &left)
}

// search delivers a request. Of one that is refused it looks for the part that
// is to blame, the first half first, so that each series keeps its order.
func (e *Engine) search(ctx context.Context, req *prompb.WriteRequest, left *int) error {
	refusal, err := e.persist(ctx, req)
	if err != nil || refusal == nil {
		return err
	}
	first, second := halve(req)
	if !refusal.divisible() || first == nil || *left < 2 {
		e.refuse(req, refusal)
		return nil
	}
	*left -= 2
	if err := e.search(ctx, first, left); err != nil {
		return err
	}
	return e.search(ctx, second, left)
}

// halve splits a request by its series, or a single series by its samples; nil
// when nothing is left to split.
func halve(req *prompb.WriteRequest) (first, second *prompb.WriteRequest) {
	if n := len(req.Timeseries); n > 1 {
		return &prompb.WriteRequest{Timeseries: req.Timeseries[:n/2]}, &prompb.WriteRequest{Timeseries: req.Timeseries[n/2:]}
	}
	if len(req.Timeseries) == 0 {
		return nil, nil
	}
	ts := req.Timeseries[0]
	a, b := ts, ts
	switch {
	case len(ts.Exemplars) > 0 && len(ts.Samples)+len(ts.Histograms) > 0:
		a.Exemplars, b.Samples, b.Histograms = nil, nil, nil
	case len(ts.Histograms) > 0 && len(ts.Samples) > 0:
		a.Histograms, b.Samples = nil, nil
	case len(ts.Samples) > 1:
		n := len(ts.Samples) / 2
		a.Samples, b.Samples = ts.Samples[:n], ts.Samples[n:]
	case len(ts.Histograms) > 1:
		n := len(ts.Histograms) / 2
		a.Histograms, b.Histograms = ts.Histograms[:n], ts.Histograms[n:]
	default:
		return nil, nil
	}
	return &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{a}}, &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{b}}
}

func (e *Engine) refuse(req *prompb.WriteRequest, why *answer) {
	n := 0
	name := "metadata"
	for i := range req.Timeseries {
		n += len(req.Timeseries[i].Samples) + len(req.Timeseries[i].Histograms)
	}
	if len(req.Timeseries) > 0 {
		name = req.Timeseries[0].ToLabels(builder(), nil).String()
	}
	e.m.refused.WithLabelValues(strconv.Itoa(why.code)).Add(float64(n))
	e.mu.Lock()
	e.refused += int64(n)
	e.example = fmt.Sprintf("%s: %s", name[:min(len(name), 200)], why)
	tell := time.Since(e.told) > time.Minute
	if tell {
		e.told = time.Now()
	}
	total, example := e.refused, e.example
	e.mu.Unlock()
	if tell {
		e.log.Warn("the engine refuses samples for good", "samples", n, "total", total, "example", example)
	}
}

// persist sends a request until the engine takes it or says that it never will.
func (e *Engine) persist(ctx context.Context, req *prompb.WriteRequest) (*answer, error) {
	raw, err := e.encode(req)
	if err != nil {
		return nil, fmt.Errorf("encode a write request: %w", err)
	}
	body := snappy.Encode(nil, raw)
	for wait := retryFrom; ; wait = min(2*wait, retryTo) {
		err := e.post(ctx, body)
		if err == nil {
			e.err.Store(nil)
			e.m.samples.Add(float64(count(req)))
			return nil, nil
		}
		var a *answer
		if errors.As(err, &a) && a.final() {
			e.err.Store(nil)
			return a, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		err = fmt.Errorf("write to the engine: %w (%w)", model.ErrUnavailable, err)
		if e.err.Swap(&err) == nil {
			e.log.Warn("the engine takes nothing at the moment, the log keeps it", "err", err)
		}
		e.m.retries.Inc()
		pause := wait/2 + rand.N(wait)
		if a != nil && a.after > 0 {
			pause = a.after + rand.N(wait)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func count(req *prompb.WriteRequest) (n int) {
	for i := range req.Timeseries {
		n += len(req.Timeseries[i].Samples) + len(req.Timeseries[i].Histograms)
	}
	return n
}

// post sends a body once. The error is an *answer when the engine gave one.
func (e *Engine) post(ctx context.Context, body []byte) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.cfg.WriteURL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	e.headers(req.Header)
	e.mark(req.Header)
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("User-Agent", "panoptes")
	start := time.Now()
	res, err := e.client.Do(req)
	if err != nil {
		e.m.requests.WithLabelValues("error").Inc()
		return err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	e.m.seconds.Observe(time.Since(start).Seconds())
	e.m.requests.WithLabelValues(strconv.Itoa(res.StatusCode)).Inc()
	text, rerr := io.ReadAll(io.LimitReader(res.Body, answerBytes))
	if res.StatusCode/100 == 2 {
		return e.understood(res.Header)
	}
	if rerr != nil {
		text = nil
	}
	return &answer{code: res.StatusCode, text: strings.TrimSpace(strings.ToValidUTF8(string(text), "�")), after: retryAfter(res.Header.Get("Retry-After"), time.Now())}
}

// retryAfter reads the header, which is a number of seconds or a time.
func retryAfter(v string, now time.Time) time.Duration {
	if v == "" {
		return 0
	}
	d := time.Duration(0)
	if n, err := strconv.ParseInt(v, 10, 32); err == nil {
		d = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		d = t.Sub(now)
	}
	return max(0, min(d, retryMost))
}
