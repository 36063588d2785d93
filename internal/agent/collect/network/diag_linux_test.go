package network

import (
	"context"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"panoptes/internal/agent/collect/metric"
)

func TestTCPCountsRealSockets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	s, err := l.Accept()
	require.NoError(t, err)
	defer s.Close()

	b := metric.NewBatch(100)
	b.Reset(1)
	require.NoError(t, NewTCP().Collect(t.Context(), b))
	got := map[string]float64{}
	for _, x := range b.Samples() {
		got[x.Labels.Get("state")] = x.V
	}
	require.GreaterOrEqual(t, got["established"], 2.)
	require.GreaterOrEqual(t, got["listen"], 1.)
	require.Contains(t, got, "rx_queued_bytes")

	conns, err := Look(t.Context())
	require.NoError(t, err)
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	require.Contains(t, conns.Listeners, Listener{Protocol: "tcp", Address: "127.0.0.1", Port: port, Established: 1})
}

// A host with very many sockets is asked less often and keeps the last answer.
func TestTCPSlowDumpIsAskedLessOften(t *testing.T) {
	calls := 0
	c := NewTCP()
	c.dump = func(_ context.Context, family, _ uint8, each func(socket)) error {
		calls++
		each(socket{state: 1})
		deadline := time.Now().Add(5 * time.Millisecond)
		for time.Now().Before(deadline) {
		}
		return nil
	}
	b := metric.NewBatch(100)
	for i := range 10 {
		b.Reset(int64(i))
		require.NoError(t, c.Collect(t.Context(), b))
		require.Equal(t, 2., b.Samples()[0].V)
	}
	require.Equal(t, 2, calls, "one dump of two families")
}

func FuzzMessages(f *testing.F) {
	good := make([]byte, 16+72)
	binary.NativeEndian.PutUint32(good, uint32(len(good)))
	binary.NativeEndian.PutUint16(good[4:], unix.SOCK_DIAG_BY_FAMILY)
	good[16], good[17] = unix.AF_INET, 10
	f.Add(good)
	f.Add(append(good, good...))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		_, _ = messages(b, func(socket) { n++ })
		require.LessOrEqual(t, n, len(b)/72)
	})
}
