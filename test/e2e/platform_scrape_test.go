//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// peer is one server of a cluster on this machine.
type peer struct {
	t    *testing.T
	name string
	base string
	run  func() *exec.Cmd
	log  *harness.LogBuffer
	cmd  *exec.Cmd
	done chan struct{}
}

// newPeers starts servers of one region that are one cluster.
func newPeers(t *testing.T, n int) []*peer {
	t.Helper()
	bin, offset := harness.Binary(t), freeOffset(t)
	var out []*peer
	for i := range n {
		p := &peer{t: t, name: fmt.Sprintf("n%d", i+1), base: fmt.Sprintf("http://127.0.0.1:%d", 9700+offset+10*i), log: &harness.LogBuffer{}}
		args := []string{"server", "--node", p.name, "--region", "eu", "--data-dir", filepath.Join(t.TempDir(), "data"), "--port-offset", fmt.Sprint(offset + 10*i)}
		if i > 0 {
			var token struct{ Token string }
			require.NoError(t, out[0].call(http.MethodPost, "/v1/tokens", `{"role":"server","uses":1}`, &token))
			args = append(args, "--join", fmt.Sprintf("127.0.0.1:%d", 9701+offset), "--token", token.Token)
		}
		p.run = func() *exec.Cmd {
			cmd := exec.Command(bin, args...)
			cmd.Env = append(os.Environ(), "PANOPTES_API_KEY="+harness.APIKey, "PANOPTES_ADMIN_PASSWORD="+harness.Password, "PANOPTES_PROBE_ALLOW_LOOPBACK=true",
				"PANOPTES_STORAGE_MIN_FREE=16MB", "PANOPTES_STORAGE_CONTROL_RESERVE=16MB")
			cmd.Stdout, cmd.Stderr = p.log, p.log
			return cmd
		}
		t.Cleanup(func() {
			p.kill()
			if t.Failed() {
				t.Logf("log of %s:\n%s", p.name, p.log)
			}
		})
		p.start()
		out = append(out, p)
	}
	for _, p := range out {
		require.Eventually(t, func() bool { return p.alive() == n }, time.Minute, 100*time.Millisecond, "%s sees all", p.name)
	}
	return out
}

func (p *peer) start() {
	p.t.Helper()
	p.cmd, p.done = p.run(), make(chan struct{})
	require.NoError(p.t, p.cmd.Start())
	go func(cmd *exec.Cmd, done chan struct{}) { _ = cmd.Wait(); close(done) }(p.cmd, p.done) // it is killed
	require.Eventually(p.t, func() bool { return p.call(http.MethodGet, "/-/ready", "", nil) == nil }, time.Minute, 50*time.Millisecond, "%s is ready", p.name)
}

// kill ends the process with SIGKILL.
func (p *peer) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill() // it may be gone
		<-p.done
		p.cmd = nil
	}
}

// call sends JSON; an answer other than 2xx is an error.
func (p *peer) call(method, path, body string, out any) error {
	req, err := http.NewRequest(method, p.base+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+harness.APIKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, data)
	case out == nil:
		return nil
	}
	return json.Unmarshal(data, out)
}

func (p *peer) alive() (n int) {
	var nodes struct{ Items []struct{ State string } }
	if p.call(http.MethodGet, "/v1/nodes", "", &nodes) != nil {
		return 0
	}
	for _, x := range nodes.Items {
		if x.State == "alive" {
			n++
		}
	}
	return n
}

// scrapedBy says who scrapes each target of a job, as Prometheus' API shows it.
func (p *peer) scrapedBy(job string) (map[string]string, error) {
	var answer struct {
		Data struct {
			ActiveTargets []struct {
				Health           string
				Labels           map[string]string
				DiscoveredLabels map[string]string
				ScrapePool       string
			}
		}
	}
	if err := p.call(http.MethodGet, "/api/v1/targets?state=active", "", &answer); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, a := range answer.Data.ActiveTargets {
		if a.ScrapePool == job && a.Health == "up" {
			out[a.Labels["n"]] = a.DiscoveredLabels["__panoptes_node__"]
		}
	}
	return out, nil
}

// raw reads every stored sample of a metric, stale markers too, by the label n.
func (p *peer) raw(metric string) map[string][]prompb.Sample {
	p.t.Helper()
	now := time.Now().UnixMilli()
	req := &prompb.ReadRequest{Queries: []*prompb.Query{{
		StartTimestampMs: now - 600_000, EndTimestampMs: now + 1000,
		Matchers: []*prompb.LabelMatcher{{Name: "__name__", Value: metric}, {Name: "job", Value: "shop"}},
	}}}
	b, err := req.Marshal()
	require.NoError(p.t, err)
	hr, err := http.NewRequest(http.MethodPost, p.base+"/api/v1/read", bytes.NewReader(snappy.Encode(nil, b)))
	require.NoError(p.t, err)
	hr.Header.Set("Authorization", "Bearer "+harness.APIKey)
	hr.Header.Set("Content-Type", "application/x-protobuf")
	hr.Header.Set("Content-Encoding", "snappy")
	resp, err := http.DefaultClient.Do(hr)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	require.Equal(p.t, http.StatusOK, resp.StatusCode, "%s", body)
	decoded, err := snappy.Decode(nil, body)
	require.NoError(p.t, err)
	var got prompb.ReadResponse
	require.NoError(p.t, got.Unmarshal(decoded))
	out := map[string][]prompb.Sample{}
	for _, ts := range got.Results[0].Timeseries {
		for _, l := range ts.Labels {
			if l.Name == "n" {
				out[l.Value] = append(out[l.Value], ts.Samples...)
			}
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b prompb.Sample) int { return cmp.Compare(a.Timestamp, b.Timestamp) })
	}
	return out
}

// A server that scrapes is killed without a word. Others scrape its targets
// within two intervals and the time in which silence is noticed, and its series
// neither seem to end nor to fail; nor do they when it comes back.
func TestScrapingOutlivesAServer(t *testing.T) {
	const (
		targets   = 20
		interval  = time.Second
		detection = 3 * time.Second // about 2 s until a silent server is suspected, and what a busy machine adds
	)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprint(w, "jobs_waiting 7\n")
	}))
	t.Cleanup(target.Close)
	peers := newPeers(t, 3)
	var groups []string
	for i := range targets {
		groups = append(groups, fmt.Sprintf(`{"targets":[%q],"labels":{"n":"%d"}}`, strings.TrimPrefix(target.URL, "http://"), i))
	}
	job := func(groups []string) string {
		return `{"name":"shop","config":{"scrape_interval":"1s","static_configs":[` + strings.Join(groups, ",") + `]}}`
	}
	require.NoError(t, peers[0].call(http.MethodPost, "/v1/scrapes", job(groups), nil))

	var before map[string]string
	shares := func(by map[string]string) map[string]int {
		out := map[string]int{}
		for _, node := range by {
			out[node]++
		}
		return out
	}
	for _, p := range peers {
		require.Eventually(t, func() (ok bool) {
			got, err := p.scrapedBy("shop")
			before, ok = got, err == nil && len(got) == targets && len(shares(got)) > 1
			return ok
		}, 30*time.Second, 100*time.Millisecond, "%s shows who scrapes what", p.name)
	}
	// Every target has been scraped some times by who has it now.
	settled := time.Now()
	require.Eventually(t, func() bool {
		got := peers[0].raw("jobs_waiting")
		for _, list := range got {
			if len(list) < 3 || list[len(list)-1].Timestamp < settled.Add(2*interval).UnixMilli() {
				return false
			}
		}
		return len(got) == targets
	}, 30*time.Second, 100*time.Millisecond)

	victim := peers[0]
	for _, p := range peers {
		if shares(before)[p.name] > shares(before)[victim.name] {
			victim = p
		}
	}
	t.Logf("%v; %s is killed", shares(before), victim.name)
	victim.kill()
	killed := time.Now()
	others := slices.DeleteFunc(slices.Clone(peers), func(p *peer) bool { return p == victim })
	moved := func() bool {
		for n, list := range others[0].raw("jobs_waiting") {
			if before[n] == victim.name && list[len(list)-1].Timestamp < killed.Add(interval).UnixMilli() {
				return false
			}
		}
		by, err := others[1].scrapedBy("shop")
		return err == nil && len(by) == targets && shares(by)[victim.name] == 0
	}
	require.Eventually(t, moved, 30*time.Second, 50*time.Millisecond, "others scrape what it had")
	t.Logf("all of its targets were shown with another server %s after", time.Since(killed).Round(10*time.Millisecond))

	// It comes back and takes its share from servers that live on.
	victim.start()
	require.Eventually(t, func() bool {
		by, err := others[0].scrapedBy("shop")
		return err == nil && len(by) == targets && shares(by)[victim.name] > 0
	}, 40*time.Second, 100*time.Millisecond, "it has its share again")
	back := time.Now()
	// Markers of a target that a server gives up would come after 2.1 intervals.
	require.Eventually(t, func() bool { return time.Since(back) > 4*interval }, 30*time.Second, 50*time.Millisecond)

	// A machine that stands still lets a scrape last as long as it may: that one has
	// failed, and its series end there. It is late for all targets.
	worst, calm := time.Duration(0), interval
	for n, list := range others[0].raw("up") {
		for i, s := range list {
			if i > 0 && before[n] != victim.name {
				calm = max(calm, time.Duration(s.Timestamp-list[i-1].Timestamp)*time.Millisecond)
			}
		}
	}
	for _, p := range others {
		lasted := p.raw("scrape_duration_seconds")
		timedOut := func(n string, at int64) bool {
			return slices.ContainsFunc(lasted[n], func(s prompb.Sample) bool { return s.Timestamp == at && s.Value >= interval.Seconds() })
		}
		for _, metric := range []string{"jobs_waiting", "up"} {
			got := p.raw(metric)
			require.Len(t, got, targets, "%s on %s", metric, p.name)
			for n, list := range got {
				for i, s := range list {
					if timedOut(n, s.Timestamp) {
						continue
					}
					require.False(t, value.IsStaleNaN(s.Value), "%s: %s of target %s ends at %d, %s after the kill", p.name, metric, n, s.Timestamp, time.UnixMilli(s.Timestamp).Sub(killed))
					require.Equal(t, map[string]float64{"jobs_waiting": 7, "up": 1}[metric], s.Value)
					if i > 0 && s.Timestamp > killed.UnixMilli() {
						gap := time.Duration(s.Timestamp-list[i-1].Timestamp) * time.Millisecond
						worst = max(worst, gap)
						require.LessOrEqual(t, gap, interval+calm+detection, "%s: target %s, which %s had", p.name, n, before[n])
					}
				}
				require.False(t, math.IsNaN(list[len(list)-1].Value))
			}
		}
	}
	t.Logf("the longest time between two samples of a target was %s; the interval is %s", worst, interval)

	// A target that is really gone ends.
	require.NoError(t, others[0].call(http.MethodPut, "/v1/scrapes/shop", job(groups[1:]), nil))
	require.Eventually(t, func() bool {
		list := others[1].raw("jobs_waiting")["0"]
		return value.IsStaleNaN(list[len(list)-1].Value)
	}, 30*time.Second, 100*time.Millisecond)
}
