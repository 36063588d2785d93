package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire/manifest"
)

// envTrial tells a program that it is on trial, and which version it should be.
const envTrial = "PANOPTES_AGENT_TRIAL"

// endTime is how long a program that is told to end may take.
const endTime = 10 * time.Second

// Launcher decides at each start, and whenever a new program is there, what
// this process does next.
type Launcher struct {
	cfg  Config
	args []string
	out  io.Writer // of a program on trial
	log  *slog.Logger
}

// Action is what a process does next.
type Action int

// The actions.
const (
	Work    Action = iota // be the agent
	Try                   // see whether another program works
	Replace               // become another program
)

// NewLauncher makes the launcher of this process; args are those of the agent.
func NewLauncher(cfg Config, args []string, out io.Writer, log *slog.Logger) *Launcher {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Launcher{cfg: cfg.withDefaults(), args: args, out: out, log: log}
}

// Next says what this process does now. For Try and Replace it names the
// version.
func (l *Launcher) Next() (Action, string) {
	if os.Getenv(envTrial) != "" {
		return Work, ""
	}
	st, err := load(l.cfg.Dir)
	if err != nil {
		l.log.Warn("state of updates not read; the program that was installed runs", "err", err)
		return Work, ""
	}
	for st.Active != "" && st.Active != l.cfg.Version {
		if err := l.usable(st.Active, st.Starts); err != nil {
			l.log.Warn("an updated program is not used any more", "version", st.Active, "err", err)
			st.Active, st.Previous, st.Starts = st.Previous, "", 0
			l.save(st)
			continue
		}
		st.Starts++
		l.save(st)
		return Replace, st.Active
	}
	if st.Trial == nil {
		return Work, ""
	}
	version := st.Trial.Version
	err = l.usable(version, 0)
	if err == nil && st.Trial.Attempts >= maxTries {
		err = fmt.Errorf("it was tried %d times and the machine or this process ended each time", st.Trial.Attempts)
	}
	if err == nil {
		st.Trial.Attempts++
		err = st.save(l.cfg.Dir) // else a program that takes the machine down would do so for ever
	}
	if err != nil {
		l.fail(err)
		return Work, ""
	}
	return Try, version
}

// usable verifies a slot and whether this program may give way to it.
func (l *Launcher) usable(version string, starts int) error {
	m, err := checkSlot(l.cfg.Dir, version, l.cfg.Key, l.cfg.Platform)
	if err != nil {
		return err
	}
	if starts >= maxStarts {
		return fmt.Errorf("it was started %d times and no server acknowledged anything", starts)
	}
	return m.May(l.cfg.Version)
}

func (l *Launcher) save(st state) {
	if err := st.save(l.cfg.Dir); err != nil {
		l.log.Warn("state of updates not kept", "err", err)
	}
}

// fail gives the program on trial up.
func (l *Launcher) fail(cause error) {
	st, err := load(l.cfg.Dir)
	if err != nil || st.Trial == nil {
		return
	}
	l.log.Error("the new program does not work; the old one goes on", "version", st.Trial.Version, "err", cause)
	st.Failed = &failed{Version: st.Trial.Version, Rollout: st.Trial.Rollout, Error: clip(cause.Error()), At: time.Now().UTC()}
	st.Trial = nil
	l.save(st)
	if err := sweep(l.cfg.Dir, st.Active, st.Previous); err != nil {
		l.log.Warn("old programs not removed", "err", err)
	}
}

// Try runs the program on trial beside this process until it has shown that it
// works, or that it does not. This process must have given up its work.
func (l *Launcher) Try(ctx context.Context, version string) {
	mark := filepath.Join(l.cfg.Dir, markFile)
	if err := os.Remove(mark); err != nil && !errors.Is(err, os.ErrNotExist) {
		l.fail(err)
		return
	}
	l.log.Info("a new program is tried", "version", version, "within", l.cfg.Trial)
	tail := &lastLine{to: l.out}
	cmd := exec.Command(filepath.Join(slotDir(l.cfg.Dir, version), program), l.args...)
	cmd.Env = append(os.Environ(), envTrial+"="+version)
	cmd.Stdout, cmd.Stderr = tail, tail
	cmd.WaitDelay = time.Second
	prepare(cmd)
	if err := cmd.Start(); err != nil {
		l.fail(fmt.Errorf("it cannot be started: %w", err))
		return
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	limit := time.NewTimer(l.cfg.Trial)
	defer limit.Stop()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			if ctx.Err() != nil {
				l.postpone()
				return
			}
			l.fail(fmt.Errorf("it ended (%w): %s", orExit(err), tail.last()))
			return
		case <-ctx.Done():
			end(cmd, ended)
			l.postpone()
			return
		case <-limit.C:
			end(cmd, ended)
			l.fail(fmt.Errorf("no server acknowledged anything within %s: %s", l.cfg.Trial, tail.last()))
			return
		case <-look.C:
			if b, err := os.ReadFile(mark); err == nil && string(b) == version {
				err := l.promote(version)
				end(cmd, ended)
				if err != nil {
					l.fail(err)
				}
				return
			}
		}
	}
}

func orExit(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// promote makes the program on trial the one in use.
func (l *Launcher) promote(version string) error {
	st, err := load(l.cfg.Dir)
	if err != nil {
		return err
	}
	st = state{Active: version, Previous: st.Active}
	if err := st.save(l.cfg.Dir); err != nil {
		return err
	}
	l.log.Info("the new program works and takes over", "version", version)
	if err := sweep(l.cfg.Dir, st.Active, st.Previous); err != nil {
		l.log.Warn("old programs not removed", "err", err)
	}
	return nil
}

// postpone takes an attempt back that says nothing: this process was told to end.
func (l *Launcher) postpone() {
	if st, err := load(l.cfg.Dir); err == nil && st.Trial != nil && st.Trial.Attempts > 0 {
		st.Trial.Attempts--
		l.save(st)
	}
}

// end tells a program to end, and ends it when it does not.
func end(cmd *exec.Cmd, ended <-chan error) {
	terminate(cmd)
	select {
	case <-ended:
		return
	case <-time.After(endTime):
	}
	_ = cmd.Process.Kill()
	<-ended
}

// Replace makes this process the program of a version. It returns only when
// that cannot be.
func (l *Launcher) Replace(version string) error {
	path := filepath.Join(slotDir(l.cfg.Dir, version), program)
	err := become(path, append([]string{path}, l.args...), os.Environ())
	l.log.Error("the updated program cannot be started; the one that was installed runs", "version", version, "err", err)
	if st, lerr := load(l.cfg.Dir); lerr == nil {
		st.Failed = &failed{Version: version, Error: clip(err.Error()), At: time.Now().UTC()}
		st.Active, st.Previous, st.Starts = st.Previous, "", 0
		l.save(st)
	}
	return err
}

// Orphaned waits until the process that tries this one is gone, or ctx ends.
// Without it a program on trial has no right to go on.
func Orphaned(ctx context.Context) bool {
	if os.Getenv(envTrial) == "" {
		<-ctx.Done()
		return false
	}
	parent := os.Getppid()
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
			if os.Getppid() != parent {
				return true
			}
		}
	}
}

// ErrSystem says that programs cannot be replaced on this system.
var ErrSystem = model.Invalid{{Field: "update.enabled", Msg: "is not possible on this system: a running program cannot be replaced; install the new one by hand"}}

// PlatformHere is the platform of this program.
func PlatformHere() manifest.Platform { return manifest.PlatformOf(hereOS, hereArch) }

// lastLine passes on what a program writes and remembers the end of it.
type lastLine struct {
	to io.Writer

	mu  sync.Mutex // guards buf
	buf []byte
}

func (t *lastLine) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if len(t.buf) > 4096 {
		t.buf = t.buf[len(t.buf)-2048:]
	}
	if t.to == nil {
		return len(b), nil
	}
	return t.to.Write(b)
}

func (t *lastLine) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := strings.TrimSpace(string(t.buf))
	return s[strings.LastIndex(s, "\n")+1:]
}
