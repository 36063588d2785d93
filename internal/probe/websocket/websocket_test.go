package websocket_test

import (
	"bytes"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gorilla "github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"panoptes/internal/probe/probetest"
	"panoptes/internal/probe/websocket"
)

func echo(t *testing.T, wait time.Duration) string {
	up := gorilla.Upgrader{Subprotocols: []string{"chat"}}
	s := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		<-time.After(wait)
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			typ, b, err := c.ReadMessage()
			if err != nil {
				return
			}
			_ = c.WriteMessage(typ, append([]byte("echo "), b...))
		}
	}))
	t.Cleanup(s.Close)
	return "ws" + strings.TrimPrefix(s.URL, "http")
}

// talker sends messages that nobody asked for until the connection ends.
func talker(t *testing.T) string {
	up := gorilla.Upgrader{}
	s := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for c.WriteMessage(gorilla.TextMessage, []byte(strings.Repeat("x", 4096))) == nil {
		}
	}))
	t.Cleanup(s.Close)
	return "ws" + strings.TrimPrefix(s.URL, "http")
}

func ws(f func(*testing.T) string) func(*testing.T) string {
	return func(t *testing.T) string { return "ws://" + f(t) }
}

func TestSuite(t *testing.T) {
	probetest.Suite{
		Kind: websocket.Kind{}, Block: `{"send":"hi","expect":"re:^echo hi$"}`,
		Up:      func(t *testing.T) string { return echo(t, 0) },
		Slow:    func(t *testing.T) string { return echo(t, 300*time.Millisecond) },
		Refused: ws(probetest.Refused), Hole: ws(probetest.Hole), Garbage: ws(probetest.Garbage), Endless: talker,
		Names: []string{"probe_websocket_status_code", "probe_ip_protocol"},
		Faults: []probetest.Fault{
			{Target: "-", Field: "target"}, {Target: "http://x", Field: "target"}, {Target: "ws://u:p@x", Field: "target"}, {Target: "ws://x:0", Field: "target"},
			{Block: `{"headers":{"a b":"c"}}`, Field: "websocket.headers.a b"}, {Block: `{"expect":"re:("}`, Field: "websocket.expect"},
			{Block: `{"subprotocols":["a b"]}`, Field: "websocket.subprotocols[0]"}, {Block: `{"ip_family":"x"}`, Field: "websocket.ip_family"},
		},
	}.Test(t)
	require.True(t, probetest.Run(t, websocket.Kind{}, echo(t, 0), `{"subprotocols":["chat"]}`, 20*time.Second).Success)
	require.False(t, probetest.Run(t, websocket.Kind{}, echo(t, 0), `{"subprotocols":["other"]}`, 20*time.Second).Success)
	s := httptest.NewServer(nethttp.NotFoundHandler())
	defer s.Close()
	out := probetest.Run(t, websocket.Kind{}, "ws"+strings.TrimPrefix(s.URL, "http"), "", 20*time.Second)
	require.Contains(t, out.Message, "404")
}

// A target that never ends its header is cut off, and not kept in memory.
func TestHugeHeader(t *testing.T) {
	const most = 64 << 20
	for name, line := range map[string]string{"one line": "a", "many lines": "X: " + strings.Repeat("a", 60) + "\r\n"} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			gone := make(chan struct{})
			addr := probetest.Listen(t, func(c net.Conn) {
				defer close(gone)
				_, _ = c.Read(make([]byte, 4096))
				_, _ = c.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nX: "))
				chunk := bytes.Repeat([]byte(line), 1<<16/len(line))
				for sent.Load() < most {
					n, err := c.Write(chunk)
					sent.Add(int64(n))
					if err != nil {
						return
					}
				}
			})
			out := probetest.Run(t, websocket.Kind{}, "ws://"+addr+"/", `{}`, 20*time.Second)
			require.False(t, out.Success)
			require.Equal(t, "the header is longer than 128 KiB", out.Message)
			<-gone
			require.Less(t, sent.Load(), int64(most/4))
		})
	}
}
