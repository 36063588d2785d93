//go:build e2e

package promql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/prometheus/prometheus/util/testutil"
	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// conformance says that all scripts are wanted, however long they take.
func conformance() bool { return os.Getenv("PANOPTES_CONFORMANCE") != "" }

// TestClusterScripts runs the scripts that come with Prometheus' engine against
// three real servers: what a script loads goes to one of them by remote write,
// what it asks goes to all of them in turn. Everything is asked of Prometheus'
// engine over a plain database as well.
func TestClusterScripts(t *testing.T) {
	var all []string
	if !conformance() { // each storage of a script needs a cluster; these have few
		all = []string{"at_modifier", "histograms", "literals", "type_and_unit"}
	}
	runScripts(t, all, 0)
}

// TestClusterScriptsKilled does the same while one of the servers is killed
// after some questions. When it is back, it has what was loaded without it.
func TestClusterScriptsKilled(t *testing.T) {
	few := []string{"at_modifier", "staleness"}
	if conformance() {
		few = append(few, "histograms", "operators", "subquery")
	}
	runScripts(t, few, 5)
}

func runScripts(t *testing.T, want []string, killAfter int) {
	began := time.Now()
	p, c := newPool(t), newChecking()
	var used, killed int
	promqltest.RunBuiltinTestsWithStorage(some{t, want}, c, func(t testutil.T) storage.Storage {
		out := &pair{Storage: teststorage.New(t)}
		s := &servers{pool: p, plain: out.Storage, number: used, killAfter: killAfter}
		used++
		out.write, out.ask = s.appender, append(out.ask, s.ask)
		out.close = func() {
			if s.down != nil {
				killed++
			}
			require.NoError(t, s.close())
		}
		return out
	})
	t.Logf("%d queries over HTTP, of them %d judged with late removal of names; %d storages, %d servers killed; %s",
		c.asked.Load(), c.byLate.Load(), used, killed, time.Since(began).Round(time.Second))
	require.Greater(t, c.asked.Load(), int64(100))
	require.Equal(t, killAfter > 0, killed > 0)
}

// some runs the named scripts only; nil = all.
type some struct {
	*testing.T
	names []string
}

func (s some) Run(file string, f func(*testing.T)) bool {
	if s.names != nil && !slices.Contains(s.names, strings.TrimSuffix(path.Base(file), ".test")) {
		return true
	}
	return s.T.Run(path.Base(file), f)
}

// servers is where the samples of one storage go: a cluster that was empty
// before. Each question goes to the next of its servers.
type servers struct {
	pool   *pool
	plain  storage.Storage // has the same samples
	number int
	c      *cluster

	asked    int
	form     string // what was asked last
	of       int    // and of whom
	from, to int64  // of the samples, in milliseconds
	new      bool   // since it was looked at, whether all servers have them
	written  bool

	killAfter int // questions; 0 = none is killed
	down      *program
}

// need takes a cluster. Who only computes does without samples and gives it back.
func (s *servers) need() (err error) {
	if s.c == nil {
		s.c, err = s.pool.take()
	}
	return err
}

// loader is the server that is written to.
func (s *servers) loader() *program {
	for i := s.number; ; i++ {
		if p := s.c.servers[i%3]; p != s.down {
			return p
		}
	}
}

func (s *servers) appender(context.Context) storage.Appender {
	return &noting{sender{key: harness.APIKey}, s}
}

// noting notes of which time samples are.
type noting struct {
	sender
	s *servers
}

func (n *noting) note(t int64) {
	if !n.s.written {
		n.s.from, n.s.to = t, t
	}
	n.s.from, n.s.to = min(n.s.from, t), max(n.s.to, t)
	n.s.new, n.s.written = true, true
}

func (n *noting) Append(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	n.note(t)
	return n.sender.Append(ref, l, t, v)
}

func (n *noting) AppendHistogram(ref storage.SeriesRef, l labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	n.note(t)
	return n.sender.AppendHistogram(ref, l, t, h, fh)
}

func (n *noting) Commit() error {
	if len(n.series) == 0 {
		return nil
	}
	if err := n.s.need(); err != nil {
		return err
	}
	n.url = n.s.loader().base + "/api/v1/write"
	return n.sender.Commit()
}

// ask asks the next server, or the same one when the question is the same.
func (s *servers) ask(path string, form url.Values) (int, []byte, error) {
	if err := s.need(); err != nil {
		return 0, nil, err
	}
	if s.new {
		for _, p := range s.c.servers {
			if p != s.down {
				if err := s.complete(p); err != nil {
					return 0, nil, err
				}
			}
		}
		s.new = false
	}
	if text := path + form.Encode(); text != s.form {
		s.form = text
		s.of++
		if s.asked++; s.asked == s.killAfter && s.written {
			s.down = s.loader()
			s.down.kill()
		}
	}
	p := s.c.servers[s.of%3]
	if p == s.down {
		s.of++
		p = s.c.servers[s.of%3]
	}
	code, body, err := over(http.DefaultClient, p.base, harness.APIKey)(path, form)
	if err != nil {
		err = fmt.Errorf("ask %s: %w\n%s", p.name, err, p.log)
	}
	return code, body, err
}

// complete waits until a server has as many samples as the plain database.
func (s *servers) complete(p *program) error {
	text := fmt.Sprintf(`{__name__=~".+"}[%dms]`, s.to-s.from+1)
	qry, err := promql.NewEngine(options(false)).NewInstantQuery(context.Background(), s.plain, nil, text, time.UnixMilli(s.to))
	if err != nil {
		return err
	}
	defer qry.Close()
	matrix, err := qry.Exec(context.Background()).Matrix()
	if err != nil {
		return err
	}
	want, have := samples(matrix), 0
	var failed error
	wait := p.wait("it does not have all samples", func() bool {
		var got struct {
			Data struct {
				Result []struct{ Values, Histograms []json.RawMessage }
			}
		}
		failed = p.call(http.MethodGet, "/api/v1/query?"+url.Values{"query": {text}, "time": {seconds(time.UnixMilli(s.to))}}.Encode(), nil, &got)
		have = 0
		for _, r := range got.Data.Result {
			have += len(r.Values) + len(r.Histograms)
		}
		return failed == nil && have >= want
	})
	if wait != nil || have != want {
		return errors.Join(fmt.Errorf("%s has %d of %d samples", p.name, have, want), wait, failed)
	}
	return nil
}

// close ends the servers. One that was killed is started again first, and gets
// what it lacks.
func (s *servers) close() error {
	if s.c == nil {
		return nil
	}
	if s.down != nil {
		if err := s.down.start(); err != nil {
			return err
		}
		if err := s.complete(s.down); err != nil {
			return err
		}
	}
	return s.c.close()
}

func samples(m promql.Matrix) (n int) {
	for _, s := range m {
		n += len(s.Floats) + len(s.Histograms)
	}
	return n
}
