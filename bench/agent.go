package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

const (
	agentInterval = 15 * time.Second
	agentWarm     = 25 * time.Second // programs have begun, dictionaries are told
	agentRounds   = 4                // that are measured
)

// benchAgent runs our agent beside node_exporter with Prometheus in agent mode,
// all at once on this machine, each at 15 s, and sends both to one server.
func benchAgent(ctx context.Context, _ settings, dir string) (err error) {
	exporterBin, err := buildIn(ctx, filepath.Join("test", "nodeexporter"), "node_exporter", "github.com/prometheus/node_exporter")
	if err != nil {
		return err
	}
	promBin, err := buildIn(ctx, filepath.Join("bench", "prometheus"), "prometheus-small", "github.com/prometheus/prometheus/cmd/prometheus")
	if err != nil {
		return err
	}
	agentBin, err := buildIn(ctx, ".", "panoptes-agent", "./cmd/panoptes-agent")
	if err != nil {
		return err
	}
	t, err := startTrio(ctx, dir, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	s := t.servers[0]

	var token struct{ Token string }
	if err := s.call(ctx, http.MethodPost, "/v1/tokens", map[string]any{"role": "agent", "uses": 1}, &token); err != nil {
		return err
	}
	// What goes over the wire is counted on the way: by a proxy that our agent
	// asks for its connection, and by one in front of the write endpoint.
	tunnel, err := newCounter("")
	if err != nil {
		return err
	}
	defer tunnel.close()
	write, err := newCounter(strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		return err
	}
	defer write.close()

	web, _ := strings.CutPrefix(s.url, "http://127.0.0.1:")
	port, err := strconv.Atoi(web)
	if err != nil {
		return fmt.Errorf("port of %s: %w", s.url, err)
	}
	ours, err := launch("panoptes-agent", agentBin, "--node", "bench", "--data-dir", filepath.Join(dir, "agent"), "--join", fmt.Sprintf("127.0.0.1:%d", port+1), "--token", token.Token,
		"--interval", agentInterval.String(), "--proxy", "http://"+tunnel.addr(), "--log", "warn")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.stop()) }()
	exporterAddr, err := freePort()
	if err != nil {
		return err
	}
	exporter, err := launch("node_exporter", exporterBin, "--web.listen-address="+exporterAddr, "--collector.processes", "--collector.systemd", "--collector.tcpstat", "--log.level=error")
	if err != nil {
		return err
	}
	defer func() { _ = exporter.stop() }() // ends with an error when it is interrupted
	conf := filepath.Join(dir, "agent-mode.yml")
	text := fmt.Sprintf("global: {scrape_interval: 15s}\nscrape_configs:\n- {job_name: node, static_configs: [{targets: [%q]}]}\nremote_write:\n- {url: %q, authorization: {credentials: %q}}\n", exporterAddr, "http://"+write.addr()+"/api/v1/write", apiKey)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	promAddr, err := freePort()
	if err != nil {
		return err
	}
	prom, err := start(ctx, "prometheus", "http://"+promAddr, promBin, nil, "--agent", "--config.file="+conf, "--storage.agent.path="+filepath.Join(dir, "prometheus-agent"), "--web.listen-address="+promAddr, "--log.level=warn")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, prom.stop()) }()

	if err := wait(ctx, agentWarm); err != nil {
		return err
	}
	type state struct {
		cpu       [3]time.Duration
		rss       [3]float64
		up, bytes [2]float64 // of the wire: from the host, both ways
		sent      [2]float64 // samples
	}
	look := func() (v state, err error) {
		for i, p := range []*process{ours, exporter, prom} {
			if v.cpu[i], err = p.precise(); err != nil {
				return v, err
			}
			if v.rss[i], _, err = p.memory(); err != nil {
				return v, err
			}
		}
		v.up = [2]float64{float64(tunnel.sent.Load()), float64(write.sent.Load())}
		v.bytes = [2]float64{float64(tunnel.sent.Load() + tunnel.received.Load()), float64(write.sent.Load() + write.received.Load())}
		if v.sent[0], err = s.counters(ctx, "panoptes_hosts_samples_total"); err != nil {
			return v, err
		}
		v.sent[1], err = prom.counters(ctx, "prometheus_remote_storage_samples_total")
		return v, err
	}
	before, err := look()
	if err != nil {
		return err
	}
	if err := wait(ctx, agentRounds*agentInterval); err != nil {
		return err
	}
	after, err := look()
	if err != nil {
		return err
	}
	if after.sent[0] == before.sent[0] || after.sent[1] == before.sent[1] {
		return fmt.Errorf("no samples have come: %v of ours, %v of the others", after.sent[0], after.sent[1])
	}
	elapsed := (agentRounds * agentInterval).Seconds()
	percent := func(i int) float64 { return 100 * (after.cpu[i] - before.cpu[i]).Seconds() / elapsed }
	perSample := func(of func(state) [2]float64, i int) float64 {
		return (of(after)[i] - of(before)[i]) / (after.sent[i] - before.sent[i])
	}
	up, both := func(s state) [2]float64 { return s.up }, func(s state) [2]float64 { return s.bytes }
	sizes := [3]float64{}
	for i, b := range []string{agentBin, exporterBin, promBin} {
		st, err := os.Stat(b)
		if err != nil {
			return err
		}
		sizes[i] = float64(st.Size()) / 1e6
	}
	fmt.Printf("one host at %s for %.0f s, all at once; bytes as they cross the wire, with TLS and signs of life for ours, plain HTTP (remote write 1) for the others\n", agentInterval, elapsed)
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tpanoptes-agent\tnode_exporter\tprometheus --agent\tthose two\tratio\t")
	row := func(what, format string, a, b, c, both float64) {
		cell := func(v float64) string {
			if v < 0 {
				return "–"
			}
			return fmt.Sprintf(format, v)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.2f\t\n", what, cell(a), cell(b), cell(c), cell(both), a/both)
	}
	row("resident memory, MB", "%.1f", after.rss[0], after.rss[1], after.rss[2], after.rss[1]+after.rss[2])
	row("CPU, % of a core", "%.3f", percent(0), percent(1), percent(2), percent(1)+percent(2))
	row("bytes a sample, from the host", "%.2f", perSample(up, 0), -1, perSample(up, 1), perSample(up, 1))
	row("bytes a sample, both ways", "%.2f", perSample(both, 0), -1, perSample(both, 1), perSample(both, 1))
	row("samples a round", "%.0f", (after.sent[0]-before.sent[0])/agentRounds, -1, (after.sent[1]-before.sent[1])/agentRounds, (after.sent[1]-before.sent[1])/agentRounds)
	row("program, MB", "%.1f", sizes[0], sizes[1], sizes[2], sizes[1]+sizes[2])
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Println()
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// buildIn builds a program from the module in dir, without symbols.
func buildIn(ctx context.Context, dir, name, pkg string) (string, error) {
	bin, err := filepath.Abs(filepath.Join("bin", name))
	if err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "building %s (minutes the first time) …\n", name)
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags", "-s -w", "-o", bin, pkg)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return bin, nil
}

// launch starts a program that has no sign of being ready.
func launch(name, bin string, args ...string) (*process, error) {
	p := &process{name: name, done: make(chan error, 1), log: &bytes.Buffer{}}
	p.cmd = exec.Command(bin, args...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	return p, nil
}

// precise is the processor time of a process in nanoseconds, as its threads
// that live have used it.
func (p *process) precise() (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("%s does not run\n%s", p.name, p.log)
	}
	var sum time.Duration
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		first, _, _ := strings.Cut(string(b), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read processor time: %w", err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// counter counts what passes: to one address, or to those that clients ask for
// (CONNECT) when there is none.
type counter struct {
	l              net.Listener
	to             string
	sent, received atomic.Int64
	mu             sync.Mutex // guards conns
	conns          []net.Conn
	wg             sync.WaitGroup
}

func newCounter(to string) (*counter, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &counter{l: l, to: to}
	c.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.serve(conn) })
		}
	})
	return c, nil
}

func (c *counter) addr() string { return c.l.Addr().String() }

func (c *counter) close() {
	_ = c.l.Close()
	c.mu.Lock()
	for _, x := range c.conns {
		_ = x.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

func (c *counter) keep(x net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, x)
}

func (c *counter) serve(in net.Conn) {
	defer in.Close()
	c.keep(in)
	to, r := c.to, bufio.NewReader(in)
	if to == "" {
		req, err := http.ReadRequest(r)
		if err != nil || req.Method != http.MethodConnect {
			return
		}
		to = req.Host
	}
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	c.keep(out)
	if c.to == "" {
		if _, err := io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
			return
		}
	}
	var both sync.WaitGroup
	both.Go(func() { pass(out, r, &c.sent); _ = out.Close() })
	both.Go(func() { pass(in, out, &c.received); _ = in.Close() })
	both.Wait()
}

func pass(to io.Writer, from io.Reader, count *atomic.Int64) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		count.Add(int64(n))
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
