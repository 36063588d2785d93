//go:build unix

package source_test

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

func TestReaderIsBounded(t *testing.T) {
	dir := t.TempDir()
	var r source.Reader
	require.NoError(t, os.WriteFile(dir+"/f", []byte(strings.Repeat("x", 10000)), 0o644))
	b, err := r.Read(dir + "/f")
	require.NoError(t, err)
	require.Len(t, b, 10000)
	_, err = r.ReadMax(dir+"/f", 9999)
	require.ErrorContains(t, err, "more than 9999 bytes")
	_, err = r.ReadMax(dir+"/f", 10000)
	require.NoError(t, err)

	require.NoError(t, syscall.Mkfifo(dir+"/fifo", 0o644))
	_, err = r.Read(dir + "/fifo")
	require.ErrorContains(t, err, "not a regular file")
	_, err = r.Read(dir)
	require.Error(t, err)
	_, err = r.Read(dir + "/none")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestNumbers(t *testing.T) {
	for s, want := range map[string]float64{"0": 0, "18": 18, "1234567890123456789": 1234567890123456789, "-1": -1, "1.5": 1.5} {
		v, ok := source.Float([]byte(s))
		require.True(t, ok, s)
		require.Equal(t, want, v)
	}
	for _, s := range []string{"", "x", "1 2"} {
		_, ok := source.Float([]byte(s))
		require.False(t, ok, s)
	}
	var f [2][]byte
	require.Len(t, source.Fields([]byte(" a\tb  c "), f[:0]), 2, "no more than there is room for")
	require.Len(t, source.Fields([]byte(" a\tb  c "), nil), 3)
}

func TestRunIsBounded(t *testing.T) {
	out, err := source.Run(t.Context(), "echo", "hello")
	require.NoError(t, err)
	require.Equal(t, "hello\n", string(out))
	var exit *source.ErrExit
	out, err = source.Run(t.Context(), "sh", "-c", "echo half; exit 3")
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 3, exit.Code)
	require.Equal(t, "half\n", string(out))
	_, err = source.Run(t.Context(), "there-is-no-such-program")
	require.ErrorIs(t, err, metric.ErrAbsent)
	_, err = source.Run(t.Context(), "head", "-c", "9000000", "/dev/zero")
	require.ErrorContains(t, err, "bytes of output")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err = source.Run(ctx, "sleep", "60")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(begin), 10*time.Second)
}
