// Package promql compares the answers of our HTTP API with those of Prometheus'
// engine: on the scripts that come with it, and on random queries.
package promql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	jsoniter "github.com/json-iterator/go"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	v1 "github.com/prometheus/prometheus/web/api/v1"
)

// pair is a plain database of Prometheus and, beside it, what is tested, with
// the same samples.
type pair struct {
	storage.Storage // the plain one
	write           func(context.Context) storage.Appender
	ask             []func(path string, form url.Values) (int, []byte, error) // each answers the same
	close           func()
}

func (p *pair) Close() error {
	p.close()
	return p.Storage.Close()
}

func (p *pair) Appender(ctx context.Context) storage.Appender {
	return &tee{p.Storage.Appender(ctx), p.write(ctx)}
}

type tee struct {
	storage.Appender
	other storage.Appender
}

func (t *tee) Append(ref storage.SeriesRef, l labels.Labels, at int64, v float64) (storage.SeriesRef, error) {
	got, err := t.Appender.Append(ref, l, at, v)
	if err == nil {
		_, err = t.other.Append(0, l, at, v)
	}
	return got, err
}

func (t *tee) AppendHistogram(ref storage.SeriesRef, l labels.Labels, at int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	got, err := t.Appender.AppendHistogram(ref, l, at, h, fh)
	if err == nil {
		_, err = t.other.AppendHistogram(0, l, at, h, fh)
	}
	return got, err
}

func (t *tee) AppendExemplar(ref storage.SeriesRef, l labels.Labels, e exemplar.Exemplar) (storage.SeriesRef, error) {
	return t.Appender.AppendExemplar(ref, l, e)
}

func (t *tee) Commit() error   { return errors.Join(t.Appender.Commit(), t.other.Commit()) }
func (t *tee) Rollback() error { return errors.Join(t.Appender.Rollback(), t.other.Rollback()) }

// options are those of our engine.
func options(delayed bool) promql.EngineOpts {
	return promql.EngineOpts{
		MaxSamples: 50_000_000, Timeout: 2 * time.Minute, LookbackDelta: 5 * time.Minute,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
		EnableAtModifier:         true, EnableNegativeOffset: true, EnablePerStepStats: true, EnableDelayedNameRemoval: delayed,
	}
}

// checking is an engine that evaluates on the plain database, asks the same of
// what is tested, and fails when the answers differ. The scripts are written for
// an engine that removes names late, a switch that is off by default: where
// that matters they are answered by such an engine.
type checking struct {
	plain, late   *promql.Engine
	skip          func(expr string) bool // not asked of what is tested
	asked, byLate atomic.Int64
	skipped       atomic.Int64
}

func newChecking() *checking {
	return &checking{plain: promql.NewEngine(options(false)), late: promql.NewEngine(options(true)), skip: func(string) bool { return false }}
}

func (c *checking) NewInstantQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	return c.query(q, qs, "/api/v1/query", url.Values{"query": {qs}, "time": {seconds(ts)}}, func(e *promql.Engine) (promql.Query, error) {
		return e.NewInstantQuery(ctx, q, opts, qs, ts)
	})
}

func (c *checking) NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, step time.Duration) (promql.Query, error) {
	form := url.Values{"query": {qs}, "start": {seconds(start)}, "end": {seconds(end)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)}}
	return c.query(q, qs, "/api/v1/query_range", form, func(e *promql.Engine) (promql.Query, error) {
		return e.NewRangeQuery(ctx, q, opts, qs, start, end, step)
	})
}

func seconds(t time.Time) string { return fmt.Sprintf("%.3f", float64(t.UnixMilli())/1000) }

func (c *checking) query(q storage.Queryable, qs, path string, form url.Values, create func(*promql.Engine) (promql.Query, error)) (promql.Query, error) {
	plain, err := create(c.plain)
	late, lateErr := create(c.late)
	if err != nil || lateErr != nil {
		if diff := c.compare(q, qs, path, form, nil, err); diff != nil {
			return nil, diff
		}
		return nil, errors.Join(err, lateErr)
	}
	return &checkedQuery{Query: plain, late: late, c: c, on: q, text: qs, path: path, form: form}, nil
}

type checkedQuery struct {
	promql.Query
	late promql.Query
	c    *checking
	on   storage.Queryable
	text string
	path string
	form url.Values
}

func (q *checkedQuery) Close() {
	q.Query.Close()
	q.late.Close()
}

func (q *checkedQuery) Exec(ctx context.Context) *promql.Result {
	res := q.Query.Exec(ctx)
	if err := q.c.compare(q.on, q.text, q.path, q.form, res, res.Err); err != nil {
		return &promql.Result{Err: err}
	}
	late := q.late.Exec(ctx)
	if a, b := wanted(q.text, res, res.Err), wanted(q.text, late, late.Err); same(a, b) != nil || fmt.Sprint(a.Warnings, a.Infos) != fmt.Sprint(b.Warnings, b.Infos) {
		q.c.byLate.Add(1)
		return late
	}
	return res
}

// compare asks what is tested, for a range twice: the second answer may have been kept.
func (c *checking) compare(on storage.Queryable, qs, path string, form url.Values, res *promql.Result, err error) error {
	if c.skip(qs) {
		c.skipped.Add(1)
		return nil
	}
	want := wanted(qs, res, err)
	for i, ask := range on.(*pair).ask {
		for range 1 + strings.Count(path, "range") {
			_, body, err := ask(path, form)
			if err != nil {
				return err
			}
			var got reply
			if err := json.Unmarshal(body, &got); err != nil {
				return fmt.Errorf("server %d answers %.200q: %w", i, body, err)
			}
			if err := same(want, got); err != nil {
				return fmt.Errorf("server %d: %w\nto %s?%s", i, err, path, form.Encode())
			}
		}
	}
	c.asked.Add(1)
	return nil
}

// reply is an answer of Prometheus' API.
type reply struct {
	Status   string   `json:"status"`
	Error    string   `json:"error"`
	Warnings []string `json:"warnings"`
	Infos    []string `json:"infos"`
	Data     struct {
		ResultType string `json:"resultType"`
		Result     any    `json:"result"`
	} `json:"data"`
}

// wanted is the answer that the API makes of a result.
func wanted(qs string, res *promql.Result, err error) (r reply) {
	if err != nil {
		return reply{Status: "error", Error: err.Error()}
	}
	b, err := jsoniter.ConfigCompatibleWithStandardLibrary.Marshal(map[string]any{"data": &v1.QueryData{ResultType: res.Value.Type(), Result: res.Value}})
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return reply{Status: "error", Error: "no JSON: " + err.Error()}
	}
	r.Status = "success"
	r.Warnings, r.Infos = res.Warnings.AsStrings(qs, 10, 10)
	slices.Sort(r.Warnings)
	slices.Sort(r.Infos)
	return r
}

func same(want, got reply) error {
	if want.Status != got.Status {
		return fmt.Errorf("got %s (%s), want %s (%s)", got.Status, got.Error, want.Status, want.Error)
	}
	if want.Status == "error" {
		text := strings.TrimPrefix(got.Error, `invalid parameter "query": `)
		if text != strings.ToValidUTF8(want.Error, "\ufffd") && !strings.Contains(want.Error, "execution: ") && !orderly(want.Error, text) {
			return fmt.Errorf("got the error %q, want %q", got.Error, want.Error)
		}
		return nil
	}
	if want.Data.ResultType != got.Data.ResultType {
		return fmt.Errorf("got a %s, want a %s", got.Data.ResultType, want.Data.ResultType)
	}
	if len(want.Warnings) != len(got.Warnings) || len(want.Infos) != len(got.Infos) {
		return fmt.Errorf("got the notes %q %q, want %q %q", got.Warnings, got.Infos, want.Warnings, want.Infos)
	}
	return alike(sorted(want.Data.Result), sorted(got.Data.Result))
}

// orderly reports whether two errors differ only in which of several series or
// groups they name first.
func orderly(a, b string) bool {
	cut := func(s string) string { s, _, _ = strings.Cut(s, "{"); return s }
	return cut(a) == cut(b)
}

// sorted orders the series of a result by their labels.
func sorted(v any) any {
	list, ok := v.([]any)
	if !ok {
		return v
	}
	slices.SortStableFunc(list, func(a, b any) int { return strings.Compare(metric(a), metric(b)) })
	return list
}

func metric(v any) string {
	m, _ := v.(map[string]any)
	return fmt.Sprint(m["metric"]) // maps are printed in order
}

// alike compares decoded JSON; numbers, which come as strings, may differ in
// their last digits.
func alike(want, got any) error {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(w) {
			return fmt.Errorf("got %.300v, want %.300v", got, want)
		}
		for k := range w {
			if err := alike(w[k], g[k]); err != nil {
				return fmt.Errorf("%s: %w", k, err)
			}
		}
		return nil
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Errorf("got %.300v, want %.300v", got, want)
		}
		for i := range w {
			if err := alike(w[i], g[i]); err != nil {
				return err
			}
		}
		return nil
	case string:
		if g, ok := got.(string); ok && near(w, g) {
			return nil
		}
	default:
		if want == got {
			return nil
		}
	}
	return fmt.Errorf("got %v, want %v", got, want)
}

func near(a, b string) bool {
	if a == b {
		return true
	}
	x, err1 := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	if err1 != nil || err2 != nil {
		return false
	}
	return math.Abs(x-y) <= 1e-10*max(1e-9, math.Abs(x), math.Abs(y))
}

// over asks a handler or server at base.
func over(client *http.Client, base, key string) func(string, url.Values) (int, []byte, error) {
	return func(path string, form url.Values) (int, []byte, error) {
		req, err := http.NewRequest(http.MethodPost, base+path, strings.NewReader(form.Encode()))
		if err != nil {
			return 0, nil, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if key != "" {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		res, err := client.Do(req)
		if err != nil {
			return 0, nil, err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return res.StatusCode, body, err
	}
}

var _ promql.QueryEngine = (*checking)(nil)
