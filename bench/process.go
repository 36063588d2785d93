package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// apiKey is the administrator's key of the server under test.
const apiKey = "pnk_bench_0123456789abcdef0123456789abcdef"

// process is a program under test.
type process struct {
	name, url string
	cmd       *exec.Cmd
	done      chan error
	log       *bytes.Buffer
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// buildPrometheus builds the pinned Prometheus from its module.
func buildPrometheus(ctx context.Context) (string, error) {
	bin, err := filepath.Abs("bin/prometheus")
	if err != nil {
		return "", err
	}
	built, err := os.Stat(bin)
	pinned, perr := os.Stat(filepath.Join("bench", "prometheus", "go.mod"))
	if err == nil && perr == nil && built.ModTime().After(pinned.ModTime()) {
		return bin, nil
	}
	fmt.Fprintln(os.Stderr, "building prometheus from its module (minutes the first time) …")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", bin, "github.com/prometheus/prometheus/cmd/prometheus")
	cmd.Dir = filepath.Join("bench", "prometheus")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build prometheus: %w\n%s", err, out)
	}
	return bin, nil
}

func startPrometheus(ctx context.Context, bin, dir string) (*process, error) {
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(conf, []byte("global: {}\n"), 0o600); err != nil {
		return nil, err
	}
	return start(ctx, "prometheus", "http://"+addr, bin, nil,
		"--config.file="+conf, "--storage.tsdb.path="+filepath.Join(dir, "prometheus"), "--web.listen-address="+addr, "--web.enable-remote-write-receiver", "--log.level=warn")
}

// panoptes is the path of our own program.
func panoptes() (string, error) {
	bin, err := filepath.Abs("bin/panoptes")
	if set := os.Getenv("PANOPTES_BIN"); set != "" {
		bin, err = set, nil
	}
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(bin); err != nil {
		return "", fmt.Errorf("%w; run `make build` first", err)
	}
	return bin, nil
}

func startPanoptes(ctx context.Context, dir string) (*process, error) {
	data, err := os.MkdirTemp(dir, "panoptes-")
	if err != nil {
		return nil, err
	}
	return startPanoptesIn(ctx, data)
}

// startPanoptesIn starts our own program on a data directory.
func startPanoptesIn(ctx context.Context, data string) (*process, error) {
	bin, err := panoptes()
	if err != nil {
		return nil, err
	}
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	env := []string{"PANOPTES_API_KEY=" + apiKey, "PANOPTES_ADMIN_PASSWORD=" + apiKey, "PANOPTES_PEER_LISTEN=127.0.0.1:0", "PANOPTES_CLUSTER_LISTEN=127.0.0.1:0", "PANOPTES_GOSSIP_LISTEN=127.0.0.1:0", "PANOPTES_CLIENT_LISTEN=127.0.0.1:0", "PANOPTES_PROBE_ALLOW_LOOPBACK=true", "PANOPTES_INGEST_SERIES_PER_SOURCE=5000000"}
	return start(ctx, "panoptes", "http://"+addr, bin, env, "server", "--data-dir", data, "--listen", addr, "--log-level", "warn")
}

// start runs a program and waits until it is ready.
func start(ctx context.Context, name, url, bin string, env []string, args ...string) (*process, error) {
	p := &process{name: name, url: url, done: make(chan error, 1), log: &bytes.Buffer{}}
	p.cmd = exec.Command(bin, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		resp, err := http.Get(url + "/-/ready")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p, nil
			}
		}
		select {
		case err := <-p.done:
			return nil, fmt.Errorf("%s ended at once: %w\n%s", name, err, p.log)
		case <-ctx.Done():
			return nil, fmt.Errorf("start %s: %w", name, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
	_ = p.cmd.Process.Kill()
	return nil, fmt.Errorf("%s is not ready after a minute\n%s", name, p.log)
}

func (p *process) stop() error {
	// It may have ended by itself; Wait tells.
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case err := <-p.done:
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", p.name, err, p.log)
		}
		return nil
	case <-time.After(time.Minute):
		_ = p.cmd.Process.Kill()
		return fmt.Errorf("%s did not end within a minute", p.name)
	}
}

// cpu is the processor time that the process has used, user and system.
func (p *process) cpu() (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The second field is the name in parentheses and may hold blanks.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("read processor time: %q", data)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("read processor time: %q", data)
	}
	// USER_HZ is 100 on every Linux that Go runs on.
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}

// memory returns the resident memory now and its peak, in MB of 10⁶ bytes.
func (p *process) memory() (now, peak float64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kb, _ := strconv.ParseFloat(f[1], 64)
		switch f[0] {
		case "VmHWM:":
			peak = kb * 1024 / 1e6
		case "VmRSS:":
			now = kb * 1024 / 1e6
		}
	}
	return now, peak, nil
}
