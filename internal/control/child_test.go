package control_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"panoptes/internal/control"
	"panoptes/internal/model"
)

// memberEnv makes the test binary a child that runs one member, so that it can
// be killed and paused like a server. It is told what to do by HTTP.
const memberEnv = "CONTROL_TEST_MEMBER"

// answer of a child to one request.
type answer struct {
	Rev     int64
	Value   string
	Err     string
	Kind    string
	Members []control.ControlMember
	Initial []control.Member
	Status  control.Status
}

var kinds = map[string]error{
	"unavailable": model.ErrUnavailable, "revision": model.ErrRevision, "conflict": model.ErrConflict,
	"not found": model.ErrNotFound, "no space": model.ErrNoSpace, "limit": model.ErrLimit,
}

// request to a child.
type request struct {
	Do         string
	Key, Value string
	Expect     int64
	ID, Addr   string
	Timeout    time.Duration
}

// runMember is the child's main function.
func runMember(text string) error {
	var cfg control.Config
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	level := slog.LevelWarn
	if os.Getenv("CONTROL_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("node", cfg.NodeID)
	c, err := control.New(cfg, control.Deps{Logger: log})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		_ = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var req request
			if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if req.Do == "stop" {
				cancel()
			}
			_ = json.NewEncoder(w).Encode(serveRequest(r.Context(), c, req))
		}))
	}()
	go func() { // a parent that dies takes us along
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	fmt.Println(ln.Addr())
	return c.Run(ctx)
}

func serveRequest(ctx context.Context, c *control.Control, req request) (a answer) {
	if req.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, req.Timeout)
		defer cancel()
	}
	var err error
	switch req.Do {
	case "ready":
		select {
		case <-c.Ready():
		default:
			err = model.ErrUnavailable
		}
	case "writable":
		err = c.Writable()
	case "put":
		a.Rev, err = c.Put(ctx, req.Key, []byte(req.Value), req.Expect)
	case "get":
		var kv model.KV
		kv, err = c.Get(ctx, req.Key)
		a.Rev, a.Value = kv.Revision, string(kv.Value)
	case "add":
		a.Initial, err = c.AddLearner(ctx, req.ID, req.Addr)
	case "remove":
		err = c.Remove(ctx, req.ID)
	case "promote":
		err = c.Promote(ctx, req.ID)
	case "move":
		err = c.MoveLeader(ctx, req.ID)
	case "leader":
		a.Value = c.Leader()
	case "restart":
		err = c.Restart(ctx)
	case "members":
		a.Members, err = c.Members(ctx)
	case "status":
		a.Status = c.Status(ctx)
	}
	if err != nil {
		a.Err = err.Error()
		for kind, e := range kinds {
			if errors.Is(err, e) {
				a.Kind = kind
			}
		}
	}
	return a
}

// child is a member in a process of its own.
type child struct {
	t    *testing.T
	cfg  control.Config
	cmd  *exec.Cmd
	in   io.Closer
	addr string
	out  output
}

// output collects what a child says.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// spawn starts a member; it does not wait until it is ready.
func spawn(t *testing.T, cfg control.Config) *child {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	text, err := json.Marshal(struct {
		control.Config
		Endpoints any `json:",omitempty"`
	}{Config: cfg})
	require.NoError(t, err)
	ch := &child{t: t, cfg: cfg, cmd: exec.Command(exe)}
	ch.cmd.Env = append(os.Environ(), memberEnv+"="+string(text))
	ch.cmd.Stderr = &ch.out
	in, err := ch.cmd.StdinPipe()
	require.NoError(t, err)
	ch.in = in
	out, err := ch.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, ch.cmd.Start())
	t.Cleanup(func() {
		ch.kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", cfg.NodeID, ch.out.String())
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err, "%s", ch.out.String())
	ch.addr = strings.TrimSpace(line)
	return ch
}

// signal sends s; a process that is to be paused is when it returns.
func (ch *child) signal(s syscall.Signal) {
	_ = ch.cmd.Process.Signal(s)
	for s == syscall.SIGSTOP {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", ch.cmd.Process.Pid))
		if err != nil || bytes.Contains(stat, []byte(") T ")) {
			return
		}
	}
}

// kill ends the process at once.
func (ch *child) kill() {
	_ = ch.cmd.Process.Kill()
	_ = ch.cmd.Wait()
}

// stop ends it in good order.
func (ch *child) stop() {
	ch.t.Helper()
	_, err := ch.do(request{Do: "stop"})
	require.NoError(ch.t, err)
	require.NoError(ch.t, ch.cmd.Wait())
}

var childHTTP = &http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// do sends a request. An error is the child's own, or what became of the connection.
func (ch *child) do(req request) (answer, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return answer{}, err
	}
	hreq, err := http.NewRequest(http.MethodPost, "http://"+ch.addr, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if req.Timeout > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), req.Timeout+5*time.Second)
		defer cancel()
		hreq = hreq.WithContext(ctx)
	}
	res, err := childHTTP.Do(hreq)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", model.ErrUnavailable, err)
	}
	defer res.Body.Close()
	var a answer
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
		return answer{}, fmt.Errorf("%w: %w", model.ErrUnavailable, err)
	}
	if a.Err != "" {
		if kind := kinds[a.Kind]; kind != nil {
			return a, fmt.Errorf("%w: %s", kind, a.Err)
		}
		return a, errors.New(a.Err)
	}
	return a, nil
}

func (ch *child) must(req request) answer {
	ch.t.Helper()
	a, err := ch.do(req)
	require.NoError(ch.t, err)
	return a
}

func (ch *child) ready() *child {
	ch.t.Helper()
	require.Eventually(ch.t, func() bool {
		_, err := ch.do(request{Do: "ready", Timeout: time.Second})
		return err == nil
	}, 30*time.Second, 20*time.Millisecond, "%s", ch.cfg.NodeID)
	return ch
}

// family is a cluster of children.
type family struct {
	*cluster
	kids map[string]*child
}

func newFamily(t *testing.T, size int) *family {
	t.Helper()
	f := &family{cluster: newCluster(t), kids: map[string]*child{}}
	f.kids["n1"] = spawn(t, f.config("n1")).ready()
	for i := 2; i <= size; i++ {
		f.join("n1", fmt.Sprintf("n%d", i))
	}
	if size%2 == 1 {
		f.voters("n1", size)
	}
	return f
}

func (f *family) join(via, id string) *child {
	f.t.Helper()
	cfg := f.config(id)
	cfg.Join = true
	cfg.Initial = f.kids[via].must(request{Do: "add", ID: id, Addr: cfg.PeerAddr}).Initial
	f.kids[id] = spawn(f.t, cfg).ready()
	return f.kids[id]
}

func (f *family) voters(via string, want int) {
	f.t.Helper()
	require.EventuallyWithT(f.t, func(ct *assert.CollectT) {
		a, err := f.kids[via].do(request{Do: "members", Timeout: 3 * time.Second})
		require.NoError(ct, err)
		n := 0
		for _, m := range a.Members {
			if !m.Learner && m.Healthy {
				n++
			}
		}
		require.Equal(ct, want, n, "%+v", a.Members)
	}, 30*time.Second, 50*time.Millisecond)
}

// leader names the leader and one that is not.
func (f *family) leader(via string) (lead, other *child) {
	f.t.Helper()
	var id string
	require.Eventually(f.t, func() bool {
		a, err := f.kids[via].do(request{Do: "leader", Timeout: time.Second})
		id = a.Value
		return err == nil && f.kids[id] != nil
	}, 30*time.Second, 20*time.Millisecond)
	for _, k := range f.kids {
		if k.cfg.NodeID != id {
			other = k
		}
	}
	return f.kids[id], other
}
