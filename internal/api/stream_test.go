package api_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/api"
	"panoptes/internal/model"
)

// live is a bench behind a real server, with Run running.
type live struct {
	*bench
	url  string
	stop context.CancelFunc
}

func goLive(t *testing.T, change ...func(*api.Config, *api.Deps)) *live {
	b := setUp(t, append(change, func(_ *api.Config, d *api.Deps) { d.Health = nil })...)
	srv := httptest.NewUnstartedServer(b.handler)
	srv.Config = api.NewServer(b.handler, nopLogger())
	srv.Start()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.api.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		srv.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	require.Eventually(t, func() bool { return b.events.emit(model.Event{Kind: model.EventNode, Subject: "node/n1"}) }, 30*time.Second, time.Millisecond)
	return &live{b, srv.URL, cancel}
}

// sse is one frame of the stream.
type sse struct{ id, event, data string }

type client struct {
	t   *testing.T
	res *http.Response
	sc  *bufio.Scanner
}

func (l *live) open(token, lastID string) *client {
	l.t.Helper()
	r, err := http.NewRequest("GET", l.url+"/v1/stream", nil)
	require.NoError(l.t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	res, err := http.DefaultClient.Do(r)
	require.NoError(l.t, err)
	l.t.Cleanup(func() { _ = res.Body.Close() })
	return &client{l.t, res, bufio.NewScanner(res.Body)}
}

// next reads a frame; comments have the event ":". ok is false at the end.
func (c *client) next() (f sse, ok bool) {
	for c.sc.Scan() {
		line := c.sc.Text()
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case line == "":
			return f, true
		case name == "id":
			f.id = value
		case name == "event":
			f.event = value
		case name == "data":
			f.data = value
		default:
			f.event = ":"
		}
	}
	return f, false
}

// want reads frames up to one of the event, comments skipped.
func (c *client) want(event string) sse {
	c.t.Helper()
	for {
		f, ok := c.next()
		require.True(c.t, ok, "the stream ended before %s", event)
		if f.event != ":" {
			require.Equal(c.t, event, f.event, f.data)
			return f
		}
	}
}

func TestStream(t *testing.T) {
	l := goLive(t)
	c := l.open("viewer", "")
	require.Equal(t, "no", c.res.Header.Get("X-Accel-Buffering"))
	require.Contains(t, c.res.Header.Get("Content-Type"), "text/event-stream")
	require.JSONEq(t, `{"server":"test","version":"1.2.3"}`, c.want("hello").data)
	l.api.PublishState("C1", "shop", model.CheckState{Status: model.StatusDown})
	f := c.want("check")
	require.Contains(t, f.data, `"status":"down"`)
	l.api.PublishRecord("user", "U1", "updated") // not for a viewer
	l.api.PublishRecord("check", "C1", "updated")
	require.JSONEq(t, `{"kind":"check","id":"C1","op":"updated"}`, c.want("record").data)

	// Resume after the first: only what came later, without reload.
	again := l.open("admin", f.id)
	again.want("hello")
	require.Contains(t, again.want("record").data, "U1")
	require.Contains(t, again.want("record").data, "C1")

	for _, id := range []string{"1", "99999999999999999", "shoe", "-3"} {
		c := l.open("editor", id)
		c.want("hello")
		c.want("reload")
		require.NoError(t, c.res.Body.Close())
		require.Eventually(t, func() bool {
			probe := l.open("editor", "")
			defer probe.res.Body.Close()
			return probe.res.StatusCode == 200
		}, 30*time.Second, time.Millisecond)
	}
}

func TestStreamLimits(t *testing.T) {
	l := goLive(t, func(c *api.Config, _ *api.Deps) { c.Ring, c.KeepAlive = 10, 20*time.Millisecond })
	for range 4 {
		l.open("viewer", "").want("hello")
	}
	c := l.open("viewer", "")
	require.Equal(t, 429, c.res.StatusCode)
	require.Equal(t, "30", c.res.Header.Get("Retry-After"))

	c = l.open("editor", "")
	c.want("hello")
	f, ok := c.next()
	require.True(t, ok)
	require.Equal(t, ":", f.event, "a comment keeps the connection")
	// A resume over more than the ring holds is told to reload.
	l.api.PublishRecord("check", "first", "updated")
	id := c.want("record").id
	for i := range 20 {
		l.api.PublishRecord("check", fmt.Sprint(i), "updated")
	}
	late := l.open("admin", id)
	late.want("hello")
	late.want("reload")
	// The end of the session ends the stream.
	l.auth.end("admin")
	require.Eventually(t, func() bool { _, ok := late.next(); return !ok }, 30*time.Second, time.Millisecond)
}

// TestSlowStream publishes faster than a client reads, until the ring has
// overtaken it: it must be told, not fed with gaps.
func TestSlowStream(t *testing.T) {
	l := goLive(t, func(c *api.Config, _ *api.Deps) { c.Ring = 10 })
	w := &slowWriter{header: http.Header{}, reached: make(chan struct{}), release: make(chan struct{})}
	r := httptest.NewRequest("GET", "/v1/stream", nil)
	r.Header.Set("Authorization", "Bearer viewer")
	done := make(chan struct{})
	go func() { defer close(done); l.handler.ServeHTTP(w, r) }()
	<-w.reached // hello is being flushed
	for i := range 50 {
		l.api.PublishRecord("check", fmt.Sprint(i), "updated")
	}
	close(w.release)
	<-done
	require.True(t, strings.HasSuffix(w.body.String(), "event: reload\ndata: {}\n\n"), w.body.String())
	require.NotContains(t, w.body.String(), "event: record")
}

// slowWriter holds the first flush until it is released.
type slowWriter struct {
	header           http.Header
	body             strings.Builder
	reached, release chan struct{}
	held             bool
}

func (w *slowWriter) Header() http.Header         { return w.header }
func (w *slowWriter) WriteHeader(int)             {}
func (w *slowWriter) Write(b []byte) (int, error) { return w.body.Write(b) }
func (w *slowWriter) FlushError() error {
	if !w.held {
		w.held = true
		close(w.reached)
		<-w.release
	}
	return nil
}

func TestStreamsEndWithTheServer(t *testing.T) {
	l := goLive(t)
	c := l.open("viewer", "")
	c.want("hello")
	l.stop()
	_, ok := c.next()
	require.False(t, ok)
	require.NoError(t, c.sc.Err(), "the end is clean")
}
