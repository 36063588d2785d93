package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
)

// message is one event of the stream.
type message struct {
	id   int64
	name string
	data []byte
	see  func(*model.Identity) bool // nil: everybody
}

// hub keeps the newest messages in a ring. A stream holds only its place in
// it, so slow ones cost nothing; one that falls out of the ring is told to
// reload.
type hub struct {
	mu      sync.Mutex
	ring    []message      // guarded by mu
	next    int            // guarded by mu; messages ever published
	last    int64          // guarded by mu; id of the newest
	wake    chan struct{}  // guarded by mu; closed and replaced with each message
	closed  chan struct{}  // closed once at the end
	streams map[string]int // guarded by mu; open streams by actor
	total   int            // guarded by mu
}

const streamsPerUser = 4

func newHub(size int) *hub {
	return &hub{ring: make([]message, size), wake: make(chan struct{}), closed: make(chan struct{}), streams: map[string]int{}}
}

func (h *hub) open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total
}

// close ends all streams. Later messages are kept but not sent.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.closed:
	default:
		close(h.closed)
	}
}

// publish adds a message. Its id is the time in microseconds, or one more than
// the last: ids rise over a restart, and those of another server are near.
func (h *hub) publish(name string, v any, see func(*model.Identity) bool) {
	data, err := json.Marshal(v)
	if err != nil {
		return // our own types: it cannot be
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = max(h.last+1, time.Now().UnixMicro())
	h.ring[h.next%len(h.ring)] = message{h.last, name, data, see}
	h.next++
	close(h.wake)
	h.wake = make(chan struct{})
}

// join notes a stream of an actor, unless there are enough.
func (h *hub) join(actor string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[actor] >= streamsPerUser {
		return false
	}
	h.streams[actor]++
	h.total++
	return true
}

func (h *hub) leave(actor string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[actor]--; h.streams[actor] == 0 {
		delete(h.streams, actor)
	}
	h.total--
}

// start returns the place after the message with the given id; ok is false
// when messages since then are lost. With id 0 it is the newest place.
func (h *hub) start(id int64) (at int, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if id == 0 || id == h.last {
		return h.next, true
	}
	oldest := max(0, h.next-len(h.ring))
	if h.next == 0 || id > h.last || id < h.ring[oldest%len(h.ring)].id {
		return h.next, false
	}
	for at = h.next; at > oldest && h.ring[(at-1)%len(h.ring)].id > id; at-- {
	}
	return at, true
}

const batch = 100

// after returns messages from a place on and the place after them; ok is false
// when the ring has overtaken the place. wake is closed when more come.
func (h *hub) after(at int) (list []message, next int, wake <-chan struct{}, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at < h.next-len(h.ring) {
		return nil, at, nil, false
	}
	for at < h.next && len(list) < batch {
		list = append(list, h.ring[at%len(h.ring)])
		at++
	}
	return list, at, h.wake, true
}

type checkMessage struct {
	ID    string           `json:"id"`
	Name  string           `json:"name"`
	State model.CheckState `json:"state"`
}

type recordMessage struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
	Op   string `json:"op"` // created, updated, deleted
}

// PublishState tells the stream that a check has a new state. It never blocks.
func (a *API) PublishState(id, name string, st model.CheckState) {
	if st.Regions == nil {
		st.Regions = map[string]model.RegionState{}
	}
	a.hub.publish("check", checkMessage{id, name, st}, func(who *model.Identity) bool { return unbound(who) || a.seesRecord(who, model.KindCheck, id) })
}

// PublishRecord tells the stream that a record was created, updated or
// deleted. It never blocks.
func (a *API) PublishRecord(kind, id, op string) {
	need := viewer
	for _, res := range resources() {
		if res.kind == kind {
			need = res.read
		}
	}
	switch kind {
	case model.KindNode:
		a.nodes.drop()
	case model.KindToken:
		need = admin
	}
	a.hub.publish("record", recordMessage{kind, id, op}, func(who *model.Identity) bool {
		return model.AtLeast(who.Role, need) && (unbound(who) || open(kind) && a.seesRecord(who, kind, id))
	})
}

// seesRecord looks a record up; one that is gone is nobody's.
func (a *API) seesRecord(who *model.Identity, kind, id string) bool {
	rec, err := a.deps.Catalog.Get(kind, id)
	return err == nil && labelled(who, rec)
}

// PublishNodes tells the stream that something about the nodes or the cluster
// has changed. It never blocks.
func (a *API) PublishNodes() {
	a.nodes.drop()
	a.hub.publish("nodes", struct{}{}, unbound)
}

func (a *API) publishEvent(e model.Event) {
	a.hub.publish("event", e, func(id *model.Identity) bool { return maySee(id, e) })
}

func (a *API) publishHealth(h Health) {
	if h.Parts == nil {
		h.Parts = []HealthPart{}
	}
	a.hub.publish("health", h, unbound)
}

const streamWrite = 10 * time.Second

// stream answers server-sent events until the client leaves, the session ends
// or the server stops.
func (a *API) stream(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		return
	}
	actor := who(r).Actor()
	if !a.hub.join(actor) {
		a.fail(w, r, &limited{fmt.Sprintf("more than %d streams at once", streamsPerUser), 30 * time.Second})
		return
	}
	defer a.hub.leave(actor)
	var since int64
	if s := r.Header.Get("Last-Event-ID"); s != "" {
		var err error
		if since, err = strconv.ParseInt(s, 10, 64); err != nil || since <= 0 {
			since = -1 // unknown: everything may have changed
		}
	}
	at, ok := a.hub.start(since)

	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	s := sseWriter{w: w, rc: http.NewResponseController(w)}
	s.event(0, "hello", mustJSON(serverHello{a.cfg.ServerName, a.cfg.Version}))
	if !ok {
		s.event(0, "reload", []byte("{}"))
	}
	defer func() { _ = s.rc.SetWriteDeadline(time.Time{}) }()
	tick := time.NewTicker(a.cfg.KeepAlive)
	defer tick.Stop()
	for s.flush() == nil {
		list, next, wake, ok := a.hub.after(at)
		if !ok {
			s.event(0, "reload", []byte("{}"))
			_ = s.flush() // the connection ends either way
			return
		}
		at = next
		for _, m := range list {
			if m.see == nil || m.see(who(r)) {
				s.event(m.id, m.name, m.data)
			}
		}
		if len(list) > 0 {
			continue
		}
		select {
		case <-r.Context().Done():
			return
		case <-a.hub.closed:
			return
		case <-wake:
		case <-tick.C:
			// A session that has ended ends its stream.
			if id, err := a.deps.Auth.Authenticate(r, address(r)); err != nil || id == nil || id.Role != who(r).Role || !labels.Equal(id.Bound, who(r).Bound) {
				return
			}
			s.comment()
		}
	}
}

type serverHello struct {
	Server  string `json:"server"`
	Version string `json:"version"`
}

// mustJSON encodes one of our own flat types, which cannot fail.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// sseWriter writes events; the first error stays.
type sseWriter struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	err error
}

func (s *sseWriter) write(format string, args ...any) {
	if s.err != nil {
		return
	}
	// A writer without deadlines, as in tests, cannot hang either.
	_ = s.rc.SetWriteDeadline(time.Now().Add(streamWrite))
	_, s.err = fmt.Fprintf(s.w, format, args...)
}

func (s *sseWriter) event(id int64, name string, data []byte) {
	if id > 0 {
		s.write("id: %d\nevent: %s\ndata: %s\n\n", id, name, data)
		return
	}
	s.write("event: %s\ndata: %s\n\n", name, data)
}

func (s *sseWriter) comment() { s.write(": still here\n\n") }

func (s *sseWriter) flush() error {
	if s.err == nil {
		s.err = s.rc.Flush()
	}
	return s.err
}
