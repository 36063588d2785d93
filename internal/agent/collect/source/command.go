package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"panoptes/internal/agent/collect/metric"
)

// Runner executes a program and returns what it wrote, bounded. A program that
// is not there is metric.ErrAbsent.
type Runner func(ctx context.Context, name string, args ...string) ([]byte, error)

// MaxOutput is the most that a program may write.
const MaxOutput = 8 << 20

// ErrExit is a program's own exit code; its output comes with it.
type ErrExit struct {
	Name string
	Code int
}

func (e *ErrExit) Error() string { return fmt.Sprintf("%s ended with code %d", e.Name, e.Code) }

// Run is the Runner of this host. It looks only where the system keeps its
// programs, not in a path that somebody may have set.
func Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	path := ""
	for _, dir := range [...]string{"/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin", "/run/current-system/sw/bin"} {
		if st, err := os.Stat(dir + "/" + name); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			path = dir + "/" + name
			break
		}
	}
	if path == "" {
		return nil, fmt.Errorf("%w: there is no program %s", metric.ErrAbsent, name)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	out := &bounded{left: MaxOutput}
	cmd.Stdout = out
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("run %s: %w", name, ctx.Err())
	case out.over:
		return nil, fmt.Errorf("run %s: more than %d bytes of output", name, MaxOutput)
	case errors.As(err, &exit):
		return out.buf.Bytes(), &ErrExit{name, exit.ExitCode()}
	case err != nil:
		return nil, fmt.Errorf("run %s: %w", name, err)
	}
	return out.buf.Bytes(), nil
}

// bounded keeps what a program writes. The buffer is not embedded: its
// ReadFrom would go past the bound.
type bounded struct {
	buf  bytes.Buffer
	left int
	over bool
}

var errTooMuch = errors.New("too much output")

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		b.over = true
		return 0, errTooMuch
	}
	return b.buf.Write(p)
}
