//go:build fault && linux

package fault

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// process is one run of a server.
type process struct {
	cmd    *exec.Cmd
	done   chan struct{}
	wanted atomic.Bool // its end was our doing
}

// start runs a program inside a host; its output is appended to the file log.
func start(h *harness.Host, log, bin string, env []string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	fmt.Fprintf(out, "=== %s %s %v\n", time.Now().Format(time.RFC3339Nano), bin, args)
	cmd := exec.Command(bin, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, out, out
	if err := h.Do(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", bin, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		// How it ended stands in the log; that it ended is what counts.
		_ = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// end sends a signal and waits for the end, which it forces after a while.
func (p *process) end(t testing.TB, sig syscall.Signal) {
	t.Helper()
	p.wanted.Store(true)
	// It may have ended by itself, or be paused.
	_ = p.cmd.Process.Signal(sig)
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
		t.Errorf("a server did not end within 30 s of %s", sig)
	}
}

func (p *process) pause()  { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *process) resume() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// running reports whether the process has not ended.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// state is the letter that /proc shows: R, S, T (paused) …
func (p *process) state(t testing.TB) byte {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	require.NoError(t, err)
	return data[bytes.LastIndexByte(data, ')')+2]
}

// tail is the end of a log.
func tail(path string, n int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte("\n")))
}
