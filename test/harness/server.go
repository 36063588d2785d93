// Package harness runs the real binary for tests, and real targets and sinks
// beside it.
package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// APIKey is the administrator's key of every server started here.
const APIKey = "pnk_test_0123456789abcdef0123456789abcdef"

// Password is the password of the user admin of every server started here.
const Password = "correct horse battery"

// Binary returns the program under test: PANOPTES_BIN, or one built now.
func Binary(t testing.TB) string { return built(t, "PANOPTES_BIN", "panoptes") }

func built(t testing.TB, env, program string) string {
	t.Helper()
	if bin := os.Getenv(env); bin != "" {
		return bin
	}
	bin := filepath.Join(t.TempDir(), program)
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "panoptes/cmd/"+program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "build: %s", out)
	return bin
}

// Server is one running server process.
type Server struct {
	t    testing.TB
	bin  string
	args []string
	Dir  string // data directory
	URL  string

	cmd  *exec.Cmd
	done chan struct{}
	log  *LogBuffer
}

// LogBuffer gathers what a process writes.
type LogBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *LogBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String is what was written so far.
func (l *LogBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Start runs a server over dir with more arguments and waits until it is ready.
// It is killed at the end of the test; its log is printed when the test failed.
func Start(t testing.TB, bin, dir string, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, bin: bin, Dir: dir, args: args, log: &LogBuffer{}}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("log of the server:\n%s", s.log)
		}
	})
	s.Restart()
	return s
}

var urlRE = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// Restart starts the process anew and waits until it is ready.
func (s *Server) Restart() {
	s.t.Helper()
	args := append([]string{"server", "--data-dir", s.Dir, "--listen", "127.0.0.1:0"}, s.args...)
	cmd := exec.Command(s.bin, args...)
	cmd.Env = append(os.Environ(),
		"PANOPTES_API_KEY="+APIKey, "PANOPTES_ADMIN_PASSWORD="+Password, "PANOPTES_PEER_LISTEN=127.0.0.1:0",
		"PANOPTES_CLUSTER_LISTEN=127.0.0.1:0", "PANOPTES_GOSSIP_LISTEN=127.0.0.1:0", "PANOPTES_CLIENT_LISTEN=127.0.0.1:0",
		"PANOPTES_PROBE_ALLOW_LOOPBACK=true", "PANOPTES_STORAGE_MIN_FREE=16MB", "PANOPTES_STORAGE_CONTROL_RESERVE=16MB", "PANOPTES_NODE=n1", "PANOPTES_REGION=eu")
	stdout, err := cmd.StdoutPipe()
	require.NoError(s.t, err)
	cmd.Stderr = s.log
	require.NoError(s.t, cmd.Start())
	s.cmd, s.done = cmd, make(chan struct{})
	found := make(chan string, 1)
	done := s.done
	go func() {
		sc := bufio.NewScanner(stdout)
		for sc.Scan() {
			fmt.Fprintln(s.log, sc.Text())
			if u := urlRE.FindString(sc.Text()); u != "" {
				select {
				case found <- u:
				default:
				}
			}
		}
		// The exit code of a killed process says nothing.
		_ = cmd.Wait()
		close(done)
	}()
	select {
	case s.URL = <-found:
	case <-done:
		require.FailNow(s.t, "the server ended at once", "%s", s.log)
	case <-time.After(30 * time.Second):
		require.FailNow(s.t, "the server did not say where it listens", "%s", s.log)
	}
	require.Eventually(s.t, func() bool {
		resp, err := http.Get(s.URL + "/-/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, 60*time.Second, 50*time.Millisecond, "the server is not ready")
}

// Kill ends the process with SIGKILL and waits for it.
func (s *Server) Kill() { s.signal(syscall.SIGKILL) }

// Stop ends the process with SIGTERM and waits for it.
func (s *Server) Stop() { s.signal(syscall.SIGTERM) }

func (s *Server) signal(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	// It may have ended by itself.
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.done:
	case <-time.After(30 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.done
		s.t.Errorf("the server did not end within 30 s of %s", sig)
	}
	s.cmd = nil
}

// PID returns the id of the process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Log returns what the server logged so far.
func (s *Server) Log() string { return s.log.String() }

// CLI runs a client command against the server and returns its output.
func (s *Server) CLI(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.bin, args...)
	cmd.Env = append(os.Environ(), "PANOPTES_SERVER="+s.URL, "PANOPTES_API_KEY="+APIKey)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Do sends a request with the administrator's key. A body that is not nil and
// not []byte is sent as JSON.
func (s *Server) Do(method, path string, body any, header ...string) (int, []byte, error) {
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		r = bytes.NewReader(b)
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return 0, nil, err
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, s.URL+path, r)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+APIKey)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, data, err
}

// Get decodes the answer to a GET into out.
func (s *Server) Get(path string, out any) error {
	code, data, err := s.Do(http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("GET %s: %d %s", path, code, data)
	}
	return json.Unmarshal(data, out)
}

// Scalar evaluates an instant query that gives one value; 0 when it gives none.
func (s *Server) Scalar(expr string) (string, error) {
	var answer struct {
		Data struct {
			Result []struct {
				Value []any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := s.Get("/api/v1/query?query="+url.QueryEscape(expr), &answer); err != nil {
		return "", err
	}
	if len(answer.Data.Result) == 0 {
		return "0", nil
	}
	return fmt.Sprint(answer.Data.Result[0].Value[1]), nil
}
