package notify_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/notify"
)

// wherever sends every connection to one address.
func wherever(addr string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}
}

// Borrowed senders read answers whole: one without an end would fill the memory.
func TestAnswersWithoutEndAreCut(t *testing.T) {
	const far = 64 << 20
	var written atomic.Int64
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusInternalServerError)
		for written.Load() < far {
			n, err := io.WriteString(w, strings.Repeat("x", 64<<10))
			if written.Add(int64(n)); err != nil {
				return
			}
		}
	}))
	t.Cleanup(srv.Close)
	n := newNotify(t, notify.Deps{Dialer: wherever(srv.Listener.Addr().String())})
	for typ, block := range map[string]string{
		"telegram":  `{"bot_token":"123:secret","chat_id":1`,
		"discord":   `{"webhook_url":"https://discord.example/api/webhooks/1/secret"`,
		"slack":     `{"api_url":"https://hooks.slack.example/services/T/B/secret"`,
		"webhook":   `{"url":"https://hook.example/"`,
		"pagerduty": `{"routing_key":"secret"`,
		"jira":      `{"api_url":"https://jira.example/rest/api/3","project":"OPS","issue_type":"Bug"`,
	} {
		written.Store(0)
		err := n.Test(t.Context(), receiver(t, typ, block+`,"http_config":{"tls_config":{"insecure_skip_verify":true}}}`))
		require.Error(t, err, typ)
		srv.CloseClientConnections()
		require.Less(t, written.Load(), int64(far), "%s: %v", typ, err)
	}
}

// A mail server that greets without an end is none, either.
func TestGreetingsWithoutEndAreCut(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	written := make(chan int)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		n, _ := io.Copy(c, io.LimitReader(endless{}, 64<<20))
		written <- int(n)
	}()
	n := newNotify(t, notify.Deps{})
	require.Error(t, n.Test(t.Context(), receiver(t, "email", fmt.Sprintf(`{"to":"a@x.test","from":"b@x.test","smarthost":%q}`, l.Addr()))))
	require.Less(t, <-written, 64<<20)
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '2'
	}
	return len(b), nil
}
