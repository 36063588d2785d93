package http_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/probe/http"
	"panoptes/internal/probe/probetest"
)

// tokens serves T1, T2, … and counts them.
func tokens(t *testing.T) (url string, made *atomic.Int32) {
	made = new(atomic.Int32)
	return server(t, func(w nethttp.ResponseWriter, _ *nethttp.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprint("T", made.Add(1)), "expires_in": 3600})
	}), made
}

// peeked is a connection whose first bytes were looked at.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

// A token that was got for a target behind TLS is not sent to it in the clear.
func TestATokenDoesNotLeaveTLS(t *testing.T) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	token, _ := tokens(t)
	seen := make(chan string, 4)
	addr := probetest.Listen(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		first, err := r.Peek(1)
		if err != nil {
			return
		}
		c = peeked{c, r}
		head := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
		if first[0] == 22 { // a hello of TLS
			c = tls.Server(c, &tls.Config{Certificates: s.TLS.Certificates})
			head = "HTTP/1.1 302 Found\r\nLocation: http://" + c.LocalAddr().String() + "/\r\nContent-Length: 0\r\n\r\n"
		}
		req, err := nethttp.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		seen <- req.Header.Get("Authorization")
		_, _ = c.Write([]byte(head))
		_, _ = c.Read(make([]byte, 1))
	})
	out := probetest.Run(t, http.Kind{}, "https://"+addr+"/", `{"tls":{"insecure_skip_verify":true},"oauth2":{"token_url":"`+token+`","client_id":"me","client_secret":"hush"}}`, 20*time.Second)
	require.True(t, out.Success, out.Message)
	require.Equal(t, "Bearer T1", <-seen)
	require.Empty(t, <-seen)
}

// A token that was revoked before its end is replaced within the run.
func TestARevokedTokenIsReplaced(t *testing.T) {
	token, made := tokens(t)
	var good, asked atomic.Int32
	good.Store(1)
	url := server(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		asked.Add(1)
		if r.Header.Get("Authorization") != fmt.Sprint("Bearer T", good.Load()) {
			w.WriteHeader(nethttp.StatusUnauthorized)
		}
	})
	p := probetest.Compile(t, http.Kind{}, url, `{"oauth2":{"token_url":"`+token+`","client_id":"me","client_secret":"hush"}}`)
	require.True(t, p.Run(t.Context()).Success)
	good.Store(2)
	out := p.Run(t.Context())
	require.True(t, out.Success, out.Message)
	require.EqualValues(t, 2, made.Load())
	require.EqualValues(t, 3, asked.Load())

	good.Store(-1) // whatever it brings
	out = p.Run(t.Context())
	require.False(t, out.Success)
	require.EqualValues(t, 5, asked.Load(), "tried once more, no oftener")
	require.False(t, p.Run(t.Context()).Success)
	require.EqualValues(t, 6, asked.Load(), "with a token that is new")
	good.Store(made.Load() + 1)
	require.True(t, p.Run(t.Context()).Success)
}
