//go:build fault && linux

package fault

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// usage is what a process holds.
type usage struct{ goroutines, descriptors, megabytes float64 }

func (n *node) usage() (usage, error) {
	var u usage
	code, body, err := n.do(http.MethodGet, "/metrics", nil)
	if err != nil {
		return u, err
	}
	if code != http.StatusOK {
		return u, fmt.Errorf("%s: metrics answered %d", n.name, code)
	}
	sc := bufio.NewScanner(bytes.NewReader(body))
	for sc.Scan() {
		name, value, _ := strings.Cut(sc.Text(), " ")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch name {
		case "go_goroutines":
			u.goroutines = v
		case "process_open_fds":
			u.descriptors = v
		case "process_resident_memory_bytes":
			u.megabytes = v / 1e6
		}
	}
	return u, sc.Err()
}

// growth looks for what a server that ran through the whole row did not give
// back. The load has ended, so it should hold less than before; the slack is
// for connections that end by time.
func (l *load) growth() {
	l.c.t.Helper()
	for _, n := range l.c.members() {
		before, ok := l.use[n.proc]
		if !ok {
			continue
		}
		now, err := n.usage()
		if err != nil {
			l.c.t.Errorf("%s: %s", n.name, err)
			continue
		}
		l.c.note("%s: goroutines %.0f -> %.0f, descriptors %.0f -> %.0f, memory %.0f -> %.0f MB", n.name, before.goroutines, now.goroutines, before.descriptors, now.descriptors, before.megabytes, now.megabytes)
		if now.goroutines > 1.1*before.goroutines+100 || now.descriptors > 1.1*before.descriptors+50 {
			l.c.t.Errorf("%s holds more than before", n.name)
		}
	}
}
