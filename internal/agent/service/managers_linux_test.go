package service

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/test/harness"
)

func TestProcesses(t *testing.T) {
	p := newProcesses("/proc")
	see := func(name, match string) Status {
		p.begin(t.Context())
		st, err := p.Status(t.Context(), model.HostService{Kind: "process", Name: name, Match: match})
		require.NoError(t, err)
		return st
	}
	require.False(t, see("nobodyhasthisname", "").Up)
	mark := fmt.Sprint("1234.", os.Getpid()) // another run may be looking for its own
	match := "^sleep " + regexp.QuoteMeta(mark) + "$"
	cmd := exec.Command("sleep", mark)
	began := time.Now()
	require.NoError(t, cmd.Start())
	st := see("x", match)
	for ; !st.Up; st = see("x", match) { // until the program is the other one
		require.Less(t, time.Since(began), time.Minute)
	}
	require.True(t, see("sleep", "").Up)
	require.WithinDuration(t, began, st.Start, time.Minute)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.False(t, see("x", match).Up)
	require.Error(t, p.Restart(t.Context(), "sleep"))
}

func TestPorts(t *testing.T) {
	for _, m := range []Manager{&ports{}, dialedPorts{}} {
		l, err := net.Listen("tcp", harness.FreeAddr(t, "127.0.0.1"))
		require.NoError(t, err)
		_, port, err := net.SplitHostPort(l.Addr().String())
		require.NoError(t, err)
		up := func() bool {
			if b, ok := m.(interface{ begin(context.Context) }); ok {
				b.begin(t.Context())
			}
			st, err := m.Status(t.Context(), model.HostService{Kind: "port", Name: port})
			require.NoError(t, err)
			return st.Up
		}
		require.True(t, up())
		// Who has no time to look does not know that nobody listens.
		for _, ended := range []func() (context.Context, context.CancelFunc){
			func() (context.Context, context.CancelFunc) { return context.WithDeadline(t.Context(), time.Now()) },
			func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				return ctx, cancel
			},
		} {
			ctx, cancel := ended()
			st, err := m.Status(ctx, model.HostService{Kind: "port", Name: port})
			require.True(t, err != nil || st.Up, "%+v", st)
			cancel()
		}
		require.NoError(t, l.Close())
		require.False(t, up())
	}
}

func TestContainers(t *testing.T) {
	id := strings.Repeat("ab", 32)
	var state atomic.Pointer[string]
	say := func(s string) { state.Store(&s) }
	var restarted atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containers/{name}/json", func(w http.ResponseWriter, r *http.Request) {
		if n := r.PathValue("name"); n != "shop" && n != "sho" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		var st json.RawMessage = []byte(*state.Load())
		_ = json.NewEncoder(w).Encode(map[string]any{"Id": id, "Name": "/shop", "RestartCount": 4, "State": st})
	})
	mux.HandleFunc("POST /containers/{id}/restart", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") == id {
			restarted.Add(1)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	})
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	srv := httptest.NewUnstartedServer(mux)
	srv.Listener = l
	srv.Start()
	defer srv.Close()
	c := newContainers([]string{"unix://" + path})
	see := func(name string) Status {
		st, err := c.Status(t.Context(), model.HostService{Kind: "container", Name: name})
		require.NoError(t, err)
		return st
	}
	say(`{"Status":"running","Running":true,"StartedAt":"2026-03-01T12:00:00Z"}`)
	require.Equal(t, Status{Up: true, Start: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Count: 4, Text: "running"}, see("shop"))
	require.False(t, see("other").Up)
	require.False(t, see("sho").Up, "the beginning of a name is not the name")
	for s, failed := range map[string]bool{
		`{"Status":"running","Running":true,"Health":{"Status":"unhealthy"}}`: true,
		`{"Status":"exited","ExitCode":1}`:                                    true,
		`{"Status":"exited","ExitCode":143}`:                                  false,
		`{"Status":"exited","ExitCode":137,"OOMKilled":true}`:                 true,
		`{"Status":"exited","ExitCode":0}`:                                    false,
	} {
		say(s)
		st := see("shop")
		require.False(t, st.Up, s)
		require.Equal(t, failed, st.Failed, s)
	}
	require.NoError(t, c.Restart(t.Context(), "shop"))
	require.EqualValues(t, 1, restarted.Load())
	require.Error(t, c.Restart(t.Context(), "sho"))
	require.ErrorIs(t, c.Restart(t.Context(), "other"), model.ErrNotFound)
	_, err = newContainers([]string{path + strconv.Itoa(1)}).Status(t.Context(), model.HostService{Kind: "container", Name: "shop"})
	require.Error(t, err, "an engine that is not there says nothing about its containers")
}
