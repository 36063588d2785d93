package service

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"panoptes/internal/model"
)

const (
	userHZ     = 100
	maxProcs   = 100_000
	maxCommand = 4096 // bytes of a command line that a pattern sees
)

// processes looks for processes by name or command line, with one walk a round.
type processes struct {
	root    string
	boot    time.Time
	list    []proc
	walked  bool
	err     error
	pattern map[string]*regexp.Regexp
}

type proc struct {
	pid   int
	name  string
	start uint64 // ticks after boot
	args  string
	read  bool // of args
}

func newProcesses(root string) *processes {
	return &processes{root: root, pattern: map[string]*regexp.Regexp{}}
}

func (p *processes) begin(context.Context) { p.walked, p.list = false, p.list[:0] }

// Status implements Manager.
func (p *processes) Status(ctx context.Context, s model.HostService) (Status, error) {
	if !p.walked {
		p.err = p.walk(ctx)
		p.walked = true
	}
	if p.err != nil {
		return Status{}, p.err
	}
	var re *regexp.Regexp
	if s.Match != "" {
		if re = p.pattern[s.Match]; re == nil {
			var err error
			if re, err = regexp.Compile(s.Match); err != nil {
				return Status{}, err
			}
			if len(p.pattern) > 2*model.MaxServices {
				clear(p.pattern)
			}
			p.pattern[s.Match] = re
		}
	}
	var oldest uint64
	n := 0
	for i := range p.list {
		x := &p.list[i]
		if re == nil && x.name != s.Name[:min(len(s.Name), 15)] || re != nil && !re.MatchString(p.command(x)) {
			continue // the kernel keeps 15 letters of a name
		}
		if n++; n == 1 || x.start < oldest {
			oldest = x.start
		}
	}
	if n == 0 {
		return Status{Failed: true, Text: "no such process"}, nil
	}
	return Status{Up: true, Start: p.boot.Add(time.Duration(oldest) * (time.Second / userHZ)), Text: fmt.Sprintf("%d processes", n)}, nil
}

// Restart implements Manager.
func (p *processes) Restart(context.Context, string) error { return noManager(model.ServiceProcess) }

// walk reads name and start of all processes.
func (p *processes) walk(ctx context.Context) error {
	if p.boot.IsZero() {
		b, err := os.ReadFile(p.root + "/stat")
		if err != nil {
			return err
		}
		_, after, _ := bytes.Cut(b, []byte("\nbtime "))
		line, _, _ := bytes.Cut(after, []byte("\n"))
		s, err := strconv.ParseInt(string(line), 10, 64)
		if err != nil {
			return fmt.Errorf("time of the start of the machine: %w", err)
		}
		p.boot = time.Unix(s, 0)
	}
	d, err := os.Open(p.root)
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // only read
	buf := make([]byte, 1024)
	for len(p.list) < maxProcs && ctx.Err() == nil {
		entries, err := d.Readdirnames(512)
		for _, n := range entries {
			pid, perr := strconv.Atoi(n)
			if perr != nil {
				continue
			}
			if x, ok := p.stat(pid, n, buf); ok {
				p.list = append(p.list, x)
			}
		}
		if err != nil || len(entries) == 0 {
			break
		}
	}
	return ctx.Err()
}

// stat reads "pid (name) state … start …"; the name may hold anything.
func (p *processes) stat(pid int, dir string, buf []byte) (proc, bool) {
	b, ok := readInto(p.root+"/"+dir+"/stat", buf)
	from, to := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if !ok || from < 0 || to < from {
		return proc{}, false
	}
	fields := bytes.Fields(b[to+1:])
	if len(fields) < 20 || fields[0][0] == 'Z' || fields[0][0] == 'X' {
		return proc{}, false // it has ended
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	return proc{pid: pid, name: string(b[from+1 : to]), start: start}, err == nil
}

// command is the command line, or the name of a thread of the kernel.
func (p *processes) command(x *proc) string {
	if !x.read {
		x.read = true
		b, _ := readInto(p.root+"/"+strconv.Itoa(x.pid)+"/cmdline", make([]byte, maxCommand))
		if x.args = strings.TrimSpace(string(bytes.ReplaceAll(b, []byte{0}, []byte{' '}))); x.args == "" {
			x.args = x.name
		}
	}
	return x.args
}

// readInto reads the beginning of a file.
func readInto(path string, buf []byte) ([]byte, bool) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false
	}
	defer f.Close() //nolint:errcheck // only read
	n, err := f.Read(buf)
	return buf[:max(n, 0)], err == nil
}
