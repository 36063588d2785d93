package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"panoptes/internal/app"
	"panoptes/internal/config"
	"panoptes/internal/run"
)

// demoRegions is where the servers of the demo pretend to be.
var demoRegions = []string{"eu", "us", "ap"}

const (
	demoStep    = 10 // ports between two servers
	demoRestart = 30 * time.Second
)

func demoCmd(stdio IO) *cobra.Command {
	d := &demo{}
	cmd := &cobra.Command{
		Use: "demo", Args: cobra.NoArgs,
		Short: "Run three servers, three agents and moody targets on this machine, to see them work and to break them",
		Long: `Run three servers in three regions, an agent in each, and targets that fail now
and then, on this machine. Everything is kept in a scratch directory that is removed at the end.
A server that you kill is started again after half a minute.`,
		Example: `  panoptes demo
  panoptes demo --servers 1             # a single server
  panoptes demo --port-offset 1000      # when the ports are taken`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out, d.errOut, d.env = cmd.OutOrStdout(), cmd.ErrOrStderr(), stdio.Env
			return d.run(cmd.Context())
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&d.count, "servers", len(demoRegions), "how many servers, 1 to 3")
	fl.IntVar(&d.offset, "port-offset", 0, "added to every port")
	fl.StringVar(&d.dir, "data-dir", "", "directory to keep everything in (default a scratch directory, removed at the end)")
	return cmd
}

// demo is one run of the command.
type demo struct {
	count, offset int
	dir           string
	out, errOut   io.Writer
	env           []string

	bin, key, password string
	mu                 sync.Mutex // guards out and errOut
}

func (d *demo) say(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.out, format+"\n", args...)
}

func (d *demo) url(i int) string {
	return "http://127.0.0.1:" + strconv.Itoa(9700+d.offset+i*demoStep)
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.count < 1 || d.count > len(demoRegions) {
		return &exitError{exitUsage, fmt.Errorf("--servers must be 1 to %d", len(demoRegions))}
	}
	if d.bin, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "panoptes-demo-"); err != nil {
			return fmt.Errorf("make a scratch directory: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	}
	d.key, d.password = "pnk_demo_"+strings.ToLower(rand.Text()), strings.ToLower(rand.Text()[:12])
	logger := newLogger(config.Log{Level: "warn", Format: "text"}, d.errOut)
	targets, err := app.NewSampleTargets(d.dir, d.offset, logger)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	// The targets outlive the servers, which would else see them all fail.
	targetsDone, targetsCancel := context.WithCancel(context.WithoutCancel(ctx))
	defer targetsCancel()
	var targetsErr error
	go func() { defer targetsCancel(); targetsErr = targets.Run(targetsDone) }()

	if err := d.start(ctx, &wg, targets); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	select {
	case <-ctx.Done():
	case <-targetsDone.Done():
		err = targetsErr
	}
	d.say("Stopping.")
	stop()
	wg.Wait()
	return err
}

// start brings up the servers one after another and the records.
func (d *demo) start(ctx context.Context, wg *sync.WaitGroup, targets *app.SampleTargets) error {
	d.say("Starting %d servers in %s …", d.count, d.dir)
	for i := range d.count {
		var args []string
		if i > 0 {
			var token struct {
				Token string `json:"token"`
			}
			if err := d.post(ctx, "/v1/tokens", map[string]any{"role": "server", "region": demoRegions[i]}, &token); err != nil {
				return fmt.Errorf("make a token for server n%d: %w", i+1, err)
			}
			args = []string{"--join", "127.0.0.1:" + strconv.Itoa(9701+d.offset), "--token", token.Token}
		}
		failed := make(chan error, 1)
		wg.Go(func() { d.keep(ctx, i, args, failed) })
		if err := d.ready(ctx, i, failed); err != nil {
			return err
		}
	}
	for _, r := range demoRegions[:d.count] {
		if err := d.post(ctx, "/v1/regions", map[string]any{"name": r}, nil); err != nil && !strings.Contains(err.Error(), "409") {
			return fmt.Errorf("record region %s: %w", r, err)
		}
	}
	docs, err := json.Marshal(map[string]any{"documents": targets.Documents(d.url(0))})
	if err != nil {
		return err
	}
	if err := d.post(ctx, "/v1/apply", json.RawMessage(docs), nil); err != nil {
		return fmt.Errorf("apply the sample records: %w", err)
	}
	if err := d.startAgents(ctx, wg); err != nil {
		return err
	}
	d.welcome(targets)
	return nil
}

func (d *demo) welcome(targets *app.SampleTargets) {
	var pages []string
	for i := range d.count {
		pages = append(pages, fmt.Sprintf("  n%d  %-3s %s", i+1, demoRegions[i], d.url(i)))
	}
	d.say(`
Panoptes runs. Any of these pages is as good as another:
%s
  log in as admin, password %s
  what is sent to people shows at %s

Try this:
  * watch the moody page fail and recover: confirmed from all regions, one message
  * kill -9 a server by the process id printed above: nothing is lost, its checks run
    elsewhere within seconds; it comes back after %s and catches up
  * kill -9 an agent: its host is unknown until the others have looked; see "host list"
  * kill -STOP a server and kill -CONT it a minute later
  * PANOPTES_SERVER=%s PANOPTES_API_KEY=%s %s node list
Ctrl-C ends everything and removes what was kept.`,
		strings.Join(pages, "\n"), d.password, targets.InboxURL(), demoRestart, d.url(0), d.key, d.bin)
}

// keep runs one server and starts it again when it was killed. An end before
// it was ever ready goes to failed.
func (d *demo) keep(ctx context.Context, i int, args []string, failed chan<- error) {
	for first := true; ctx.Err() == nil; first = false {
		log := &tail{}
		cmd := d.command(ctx, i, args, log)
		if err := cmd.Start(); err != nil {
			failed <- fmt.Errorf("start server n%d: %w", i+1, err)
			return
		}
		d.say("  n%d (%s) is process %d", i+1, demoRegions[i], cmd.Process.Pid)
		err := cmd.Wait()
		if ctx.Err() != nil {
			return
		}
		select {
		case failed <- fmt.Errorf("server n%d ended: %w\n%s", i+1, err, log):
		default:
		}
		if first && log.has("the configuration has faults") {
			return
		}
		d.say("n%d ended (%v); it is started again in %s", i+1, err, demoRestart)
		select {
		case <-ctx.Done():
		case <-time.After(demoRestart):
		}
	}
}

func (d *demo) command(ctx context.Context, i int, args []string, log io.Writer) *exec.Cmd {
	dir := filepath.Join(d.dir, "n"+strconv.Itoa(i+1))
	cmd := exec.CommandContext(ctx, d.bin, append([]string{"server", "--node", "n" + strconv.Itoa(i+1), "--region", demoRegions[i],
		"--data-dir", dir, "--port-offset", strconv.Itoa(d.offset + i*demoStep), "--log-level", "warn"}, args...)...)
	cmd.Env = append([]string{}, d.env...)
	cmd.Env = append(cmd.Env, "PANOPTES_API_KEY="+d.key, "PANOPTES_ADMIN_PASSWORD="+d.password, "PANOPTES_PROBE_ALLOW_LOOPBACK=true",
		"PANOPTES_STORAGE_MIN_FREE=64MB", "PANOPTES_STORAGE_CONTROL_RESERVE=32MB", "PANOPTES_CONFIG=")
	cmd.Stdout, cmd.Stderr = io.Discard, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 15 * time.Second
	run.EndWithParent(cmd)
	return cmd
}

func (d *demo) ready(ctx context.Context, i int, failed <-chan error) error {
	limit := time.After(90 * time.Second)
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url(i)+"/-/ready", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return fmt.Errorf("server n%d did not get ready within 90s; see its log with a data directory of your own: --data-dir", i+1)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// post asks the first server and waits while it is not writable.
func (d *demo) post(ctx context.Context, path string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	for end := time.Now().Add(30 * time.Second); ; {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url(0)+path, bytes.NewReader(data))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+d.key)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		resp.Body.Close()
		switch {
		case err != nil:
			return err
		case resp.StatusCode < 300 && answer == nil:
			return nil
		case resp.StatusCode < 300:
			return json.Unmarshal(text, answer)
		case resp.StatusCode != http.StatusServiceUnavailable || time.Now().After(end):
			return fmt.Errorf("%s: %d %s", path, resp.StatusCode, strings.TrimSpace(string(text)))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// tail keeps the end of a log.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 8<<10 {
		t.buf = t.buf[len(t.buf)-4<<10:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

func (t *tail) has(s string) bool { return strings.Contains(t.String(), s) }
