//go:build fault && linux

package fault

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// Everything in the world listens on this port; the address tells what is asked.
const worldPort = "8080"

// sinkAddr is where notifications go; targets count from 1.
var sinkAddr = harness.WorldAddr(1000)

func targetAddr(i int) string { return harness.WorldAddr(i) }

// world is what the servers watch and whom they tell: HTTP targets, and a
// webhook that keeps a log of each delivery on a file system of its own.
type world struct {
	mu         sync.Mutex
	broken     map[string]bool // addresses that answer 503
	deliveries []delivery
	log        *os.File
}

// delivery is one notification about one alert as it arrived.
type delivery struct {
	At      time.Time         `json:"at"`
	From    string            `json:"from"` // address of the server
	Key     string            `json:"key"`  // header Idempotency-Key
	Status  string            `json:"status"`
	Started string            `json:"started"`
	Labels  map[string]string `json:"labels"`
}

func newWorld(t *testing.T, dir string) *world {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, "deliveries.jsonl"))
	require.NoError(t, err)
	w := &world{broken: map[string]bool{}, log: log}
	l, err := net.Listen("tcp4", "0.0.0.0:"+worldPort)
	require.NoError(t, err)
	srv := &http.Server{Handler: w}
	var wg sync.WaitGroup
	wg.Go(func() {
		// It ends when it is closed.
		_ = srv.Serve(l)
	})
	t.Cleanup(func() {
		srv.Close()
		wg.Wait()
		log.Close()
	})
	return w
}

// ServeHTTP plays the machine that the address belongs to.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		http.Error(rw, "which machine?", http.StatusInternalServerError)
		return
	}
	host, _, err := net.SplitHostPort(local.String())
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	if host == sinkAddr {
		w.take(rw, r)
		return
	}
	w.mu.Lock()
	broken := w.broken[host]
	w.mu.Unlock()
	if broken {
		http.Error(rw, "broken", http.StatusServiceUnavailable)
		return
	}
	io.WriteString(rw, "ok\n")
}

func (w *world) take(rw http.ResponseWriter, r *http.Request) {
	var message struct {
		Alerts []struct {
			Status   string            `json:"status"`
			StartsAt string            `json:"startsAt"`
			Labels   map[string]string `json:"labels"`
		} `json:"alerts"`
	}
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	from, _, _ := net.SplitHostPort(r.RemoteAddr)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range message.Alerts {
		d := delivery{At: time.Now(), From: from, Key: r.Header.Get("Idempotency-Key"), Status: a.Status, Started: a.StartsAt, Labels: a.Labels}
		w.deliveries = append(w.deliveries, d)
		line, err := json.Marshal(d)
		if err == nil {
			fmt.Fprintf(w.log, "%s\n", line)
		}
	}
}

// set makes targets fail or work again.
func (w *world) set(broken bool, targets ...int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range targets {
		w.broken[targetAddr(i)] = broken
	}
}

// got returns the deliveries whose alert has the name and the status, and
// concerns the check unless that is empty.
func (w *world) got(alertname, status, check string) []delivery {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []delivery
	for _, d := range w.deliveries {
		if d.Labels["alertname"] == alertname && d.Status == status && (check == "" || d.Labels["check"] == check) {
			out = append(out, d)
		}
	}
	return out
}

// tally counts deliveries: all, and those that told the same once more.
func (w *world) tally() (sent, repeated int, byName map[string]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	byName = map[string]int{}
	seen := map[string]bool{}
	for _, d := range w.deliveries {
		byName[d.Labels["alertname"]+" "+d.Status]++
		labels, _ := json.Marshal(d.Labels)
		what := string(labels) + d.Status
		if d.Status == "firing" || d.Started != "" {
			what += d.Started
		}
		if seen[what] {
			repeated++
		}
		seen[what] = true
	}
	return len(w.deliveries), repeated, byName
}

func checkName(i int) string { return fmt.Sprintf("target-%03d", i) }

// documents are the checks, the receiver and the route of a row.
func (s setup) documents() []map[string]any {
	doc := func(kind, name string, spec map[string]any) map[string]any {
		return map[string]any{"kind": kind, "name": name, "spec": spec}
	}
	docs := []map[string]any{
		doc("receiver", "sink", map[string]any{"type": "webhook", "webhook": map[string]any{"url": "http://" + sinkAddr + ":" + worldPort + "/"}}),
		doc("route", "default", map[string]any{"receiver": "sink", "group_by": []string{"..."}, "group_wait": "0s", "group_interval": "1s", "repeat_interval": "4h"}),
	}
	every, policy := s.every, s.policy
	if every == "" {
		every = "1s"
	}
	if policy == "" {
		policy = "majority"
	}
	for i := 1; i <= s.checks; i++ {
		docs = append(docs, doc("check", checkName(i), map[string]any{"type": "http", "target": "http://" + targetAddr(i) + ":" + worldPort + "/",
			"interval": every, "timeout": "1s", "policy": policy}))
	}
	return docs
}
