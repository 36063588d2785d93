//go:build fault && linux

package fault

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	recordWriters    = 5
	recordsPerWriter = 20
	recordPrefix     = "config-"
)

// records writes numbered changes of records with compare-and-swap to all
// servers and knows which were acknowledged. Each writer has its own records.
type records struct {
	c       *cluster
	writers [recordWriters]recordWriter
	wg      sync.WaitGroup
	mu      sync.Mutex // guards log
	log     *bufio.Writer
}

type recordWriter struct {
	mu      sync.Mutex
	newest  map[string]change // of each record, acknowledged
	acked   map[string]bool   // "name change": each acknowledged change, which has an audit event
	unsure  map[string]bool   // records whose last change was given up
	refused string
	maxGap  time.Duration
	gapAt   time.Time
	last    time.Time
	writes  int
}

// change is one acknowledged state of a record.
type change struct {
	id       string
	revision int64
	text     string // its description: "change 17"
}

func startRecords(ctx, giveUp context.Context, c *cluster) (*records, error) {
	f, err := os.Create(filepath.Join(c.dir, "acked-records.tsv"))
	if err != nil {
		return nil, err
	}
	r := &records{c: c, log: bufio.NewWriter(f)}
	for w := range r.writers {
		wr := &r.writers[w]
		wr.newest, wr.acked, wr.unsure = map[string]change{}, map[string]bool{}, map[string]bool{}
		if options.writes > 0 {
			r.wg.Go(func() { r.write(ctx, giveUp, w) })
		}
	}
	c.t.Cleanup(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if err := r.log.Flush(); err != nil {
			c.t.Logf("log of acknowledgements: %s", err)
		}
		f.Close()
	})
	return r, nil
}

func (r *records) write(ctx, giveUp context.Context, w int) {
	servers := newPool(r.c, w, 3*time.Second)
	wr := &r.writers[w]
	tick := time.NewTicker(time.Second * recordWriters / time.Duration(options.writes))
	defer tick.Stop()
	for seq := 0; ; seq++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		name := fmt.Sprintf("%s%d-%02d", recordPrefix, w, seq%recordsPerWriter)
		text := fmt.Sprintf("change %d", seq)
		old := wr.newest[name]
		var now change
		clean := true // the first attempt was the one that succeeded
		ok, refused := servers.until(giveUp, func(n *node, cl *client) (bool, string) {
			got, done, refused := r.attempt(n, cl, name, text, old, clean)
			if done {
				now = got
			} else {
				clean = false
			}
			return done, refused
		})
		wr.add(name, now, ok, refused, clean)
		if refused != "" {
			return
		}
		if ok {
			r.mu.Lock()
			fmt.Fprintf(r.log, "%s\t%s\t%d\t%v\t%d\n", name, text, now.revision, clean, time.Now().UnixMilli())
			r.mu.Unlock()
		}
	}
}

func (wr *recordWriter) add(name string, now change, ok bool, refused string, clean bool) {
	wr.mu.Lock()
	defer wr.mu.Unlock()
	if !ok {
		wr.unsure[name] = true
		wr.refused = refused
		return
	}
	t := time.Now()
	if !wr.last.IsZero() && t.Sub(wr.last) > wr.maxGap {
		wr.maxGap, wr.gapAt = t.Sub(wr.last), wr.last
	}
	wr.last = t
	wr.writes++
	wr.newest[name] = now
	if clean {
		// A change found stored after a failed request was never acknowledged;
		// its event may have died with the server.
		wr.acked[name+" "+now.text] = true
	}
}

// attempt makes the change on one server. After a failure nobody knows whether
// it is stored: a conflict then means that it is, and is looked at.
func (r *records) attempt(n *node, cl *client, name, text string, old change, clean bool) (now change, done bool, refused string) {
	spec := map[string]any{"name": name, "type": "tcp", "target": "192.0.2.1:1", "paused": true, "description": text}
	var code int
	var body []byte
	var err error
	if old.id == "" {
		code, body, err = cl.do(http.MethodPost, "/v1/checks", spec)
	} else {
		code, body, err = cl.do(http.MethodPut, "/v1/checks/"+old.id, spec, "If-Match", fmt.Sprintf(`"%d"`, old.revision))
	}
	switch {
	case err != nil:
		return now, false, ""
	case code/100 == 2:
		now, err = decodeChange(body)
		if err != nil || now.text != text || now.revision <= old.revision {
			return now, false, fmt.Sprintf("%s acknowledged %s of %s with %s (%v); the revision before was %d", n.name, text, name, clip(body), err, old.revision)
		}
		return now, true, ""
	case code == http.StatusConflict || code == http.StatusPreconditionFailed:
		if clean {
			return now, false, fmt.Sprintf("%s answered %d to the first attempt at %s of %s (revision %d): %s", n.name, code, text, name, old.revision, clip(body))
		}
		code, body, err = cl.do(http.MethodGet, "/v1/checks/"+name, nil)
		if err != nil || code != http.StatusOK {
			return now, false, ""
		}
		now, err = decodeChange(body)
		return now, err == nil && now.text == text, ""
	case code == http.StatusNotFound && old.id != "" && !r.behind(n):
		return now, false, fmt.Sprintf("%s answered 404 to %s of %s, which it or another server had acknowledged", n.name, text, name)
	case code/100 == 4 && code != http.StatusTooManyRequests && code != http.StatusNotFound:
		return now, false, fmt.Sprintf("%s answered %d to %s of %s: %s", n.name, code, text, name, clip(body))
	}
	return now, false, ""
}

// behind reports whether a server may not have seen the newest records yet:
// reads are local and a server without quorum keeps what it last saw.
func (r *records) behind(n *node) bool {
	var v clusterView
	return n.get("/v1/cluster", &v) != nil || !v.Writable || len(r.c.members()) > 1
}

func decodeChange(body []byte) (change, error) {
	var rec struct {
		ID, Description string
		Revision        int64
	}
	err := json.Unmarshal(body, &rec)
	return change{rec.ID, rec.Revision, rec.Description}, err
}

// acked counts the acknowledged changes.
func (r *records) acked() int {
	n := 0
	for w := range r.writers {
		wr := &r.writers[w]
		wr.mu.Lock()
		n += wr.writes
		wr.mu.Unlock()
	}
	return n
}

// gap is the longest time that a writer had to wait for an acknowledgement.
func (r *records) gap() (longest time.Duration, at time.Time) {
	for w := range r.writers {
		wr := &r.writers[w]
		wr.mu.Lock()
		if wr.maxGap > longest {
			longest, at = wr.maxGap, wr.gapAt
		}
		wr.mu.Unlock()
	}
	return longest, at
}

// lost asks one server for all acknowledged records and audit events. The
// error names some of those that are missing.
func (r *records) lost(n *node) (lostRecords, lostEvents int, err error) {
	have, err := n.records()
	if err != nil {
		return 0, 0, err
	}
	events, err := n.audits(r.c.began)
	if err != nil {
		return 0, 0, err
	}
	var wrong []string
	for w := range r.writers {
		wr := &r.writers[w]
		wr.mu.Lock()
		if wr.refused != "" {
			wrong = append(wrong, "a writer was refused: "+wr.refused)
		}
		for _, name := range slices.Sorted(maps.Keys(wr.newest)) {
			want, got := wr.newest[name], have[name]
			if got.revision < want.revision || !wr.unsure[name] && got != want {
				lostRecords++
				wrong = append(wrong, fmt.Sprintf("%s is %+v, acknowledged was %+v", name, got, want))
			}
		}
		for _, what := range slices.Sorted(maps.Keys(wr.acked)) {
			if !events[what] {
				lostEvents++
				wrong = append(wrong, "no audit event of "+what)
			}
		}
		wr.mu.Unlock()
	}
	if len(wrong) > 0 {
		err = fmt.Errorf("%s: %d faults: %s", n.name, len(wrong), strings.Join(wrong[:min(len(wrong), 5)], "; "))
	}
	return lostRecords, lostEvents, err
}

// records reads all numbered records from one server.
func (n *node) records() (map[string]change, error) {
	out := map[string]change{}
	for cursor := ""; ; {
		var page struct {
			Items []json.RawMessage
			Next  string
		}
		if err := n.get("/v1/checks?limit=1000&cursor="+cursor, &page); err != nil {
			return nil, err
		}
		for _, item := range page.Items {
			var name struct{ Name string }
			if err := json.Unmarshal(item, &name); err != nil {
				return nil, err
			}
			if !strings.HasPrefix(name.Name, recordPrefix) {
				continue
			}
			ch, err := decodeChange(item)
			if err != nil {
				return nil, err
			}
			out[name.Name] = ch
		}
		if cursor = page.Next; cursor == "" {
			return out, nil
		}
	}
}

// audits reads the changes of numbered records from one server's history.
func (n *node) audits(from time.Time) (map[string]bool, error) {
	out := map[string]bool{}
	for cursor := ""; ; {
		var page struct {
			Items []struct {
				Name string
				Data struct {
					After struct{ Description string }
				}
			}
			Next string
		}
		path := "/v1/events?kind=audit&subject=check/&limit=1000&from=" + from.UTC().Format("2006-01-02T15:04:05Z") + "&cursor=" + cursor
		if err := n.get(path, &page); err != nil {
			return nil, err
		}
		for _, e := range page.Items {
			out[e.Name+" "+e.Data.After.Description] = true
		}
		if cursor = page.Next; cursor == "" {
			return out, nil
		}
	}
}
