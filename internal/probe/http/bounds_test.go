package http_test

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/probe/http"
	"panoptes/internal/probe/probetest"
)

// The limit of the body bounds what is read, also when the run is over.
func TestNoMoreThanTheLimitIsRead(t *testing.T) {
	const most = 256 << 20 // the server ends then, as if all had been read
	for name, head := range map[string]string{
		"length":  fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", most),
		"close":   "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			gone := make(chan struct{})
			addr := probetest.Listen(t, func(c net.Conn) {
				defer close(gone)
				_, _ = c.Read(make([]byte, 4096))
				_, _ = c.Write([]byte(head))
				chunk := make([]byte, 1<<16)
				for sent.Load() < most {
					if name == "chunked" {
						_, _ = fmt.Fprintf(c, "%x\r\n", len(chunk))
					}
					n, err := c.Write(chunk)
					sent.Add(int64(n))
					if err != nil {
						return
					}
					if name == "chunked" {
						_, _ = c.Write([]byte("\r\n"))
					}
				}
			})
			out := probetest.Run(t, http.Kind{}, "http://"+addr+"/", `{"max_body_bytes":1000}`, 20*time.Second)
			require.True(t, out.Success, out.Message)
			<-gone
			require.Less(t, sent.Load(), int64(most/4))
		})
	}
}
