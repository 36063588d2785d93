package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// AgentBinary returns the agent's program: PANOPTES_AGENT_BIN, or one built now.
func AgentBinary(t testing.TB) string { return built(t, "PANOPTES_AGENT_BIN", "panoptes-agent") }

// Process is a program that runs inside a Host and may be started again and
// again. Its log is printed when the test failed.
type Process struct {
	t    testing.TB
	host *Host
	bin  string
	env  []string
	cmd  *exec.Cmd
	done chan struct{}
	log  *LogBuffer
}

// Program prepares a program of a host; it is killed at the end of the test.
func (h *Host) Program(bin string, env ...string) *Process {
	p := &Process{t: h.net.t, host: h, bin: bin, env: append(os.Environ(), env...), log: &LogBuffer{}}
	p.t.Cleanup(func() {
		p.Kill()
		if p.t.Failed() {
			lines := bytes.Split(bytes.TrimSpace([]byte(p.log.String())), []byte("\n"))
			p.t.Logf("end of the log of %s:\n%s", h.Name, bytes.Join(lines[max(0, len(lines)-25):], []byte("\n")))
		}
	})
	return p
}

// Start runs the program with these arguments. It does not wait for anything.
func (p *Process) Start(args ...string) {
	p.t.Helper()
	cmd := exec.Command(p.bin, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, p.log, p.log
	require.NoError(p.t, p.host.Do(cmd.Start), "start %s", p.bin)
	done := make(chan struct{})
	go func() {
		// How it ended stands in its log.
		_ = cmd.Wait()
		close(done)
	}()
	p.cmd, p.done = cmd, done
}

// Running reports whether the process has not ended.
func (p *Process) Running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Kill ends the process with SIGKILL and waits for it.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

// Stop ends the process with SIGTERM and waits for it.
func (p *Process) Stop() { p.end(syscall.SIGTERM) }

func (p *Process) end(sig syscall.Signal) {
	if p.cmd == nil {
		return
	}
	// It may have ended by itself.
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
		p.t.Errorf("a process of %s did not end within 30 s of %s", p.host.Name, sig)
	}
	p.cmd = nil
}

// Log returns what the program said so far.
func (p *Process) Log() string { return p.log.String() }

// Resident returns the memory that the process holds, in bytes.
func (p *Process) Resident() (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no VmRSS of process %d", p.cmd.Process.Pid)
}
