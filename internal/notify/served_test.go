package notify

import (
	"fmt"
	"net/mail"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestServedIsBounded reaches inside: it takes an hour.
func TestServedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s served
		to := []*mail.Address{{Address: "a"}, {Address: "b"}}
		require.True(t, s.note("x", []string{"a"}, true))
		require.Equal(t, to[1:], s.left("x", to))
		require.Equal(t, to, s.left("y", to))
		time.Sleep(refusedFor - time.Second)
		require.True(t, s.note("x", nil, true))
		time.Sleep(time.Second)
		require.False(t, s.note("x", nil, true), "that was long enough: the others have it")
		require.Equal(t, to, s.left("x", to))
		for i := range 2 * maxServed {
			require.True(t, s.note(fmt.Sprint(i), []string{"a"}, true))
			require.LessOrEqual(t, len(s.m), maxServed)
		}
		time.Sleep(2 * refusedFor)
		require.True(t, s.note("z", []string{"a"}, true))
		require.Len(t, s.m, 1)
		require.False(t, s.note("", []string{"a"}, true), "a message without a name cannot be remembered")
	})
}
