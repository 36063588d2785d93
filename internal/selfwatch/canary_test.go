package selfwatch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCanaryAfterTheClockWasSet reaches inside: a test cannot set the clock.
func TestCanaryAfterTheClockWasSet(t *testing.T) {
	const interval = 10 * time.Minute
	noon := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for at, want := range map[time.Duration]bool{
		0: false, interval - 1: false, interval: true, 24 * time.Hour: true,
		-time.Second: false, -time.Minute: false, // put right
		-61 * time.Second: true, -interval: true, -time.Hour: true, -365 * 24 * time.Hour: true, // set back
	} {
		current, due := dueSlot(noon, noon.Add(at), interval)
		require.Equal(t, want, due, at)
		require.Equal(t, noon.Add(at).Truncate(interval), current)
		if due {
			_, again := dueSlot(current, noon.Add(at+time.Minute), interval)
			require.False(t, again, "once: %s", at)
		}
	}
}
