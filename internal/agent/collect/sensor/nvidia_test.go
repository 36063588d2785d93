package sensor

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/agent/collect/metric"
)

func TestNvidia(t *testing.T) {
	answer := "GPU-1a, Card X, 550.1, 00000000:01:00.0, 37, 5, 16384, 1024, 15360, 55, 70.5, 250.00, [N/A], 1500, 0, 2\n"
	run := func(_ context.Context, name string, args ...string) ([]byte, error) {
		require.Equal(t, "nvidia-smi", name)
		require.Len(t, strings.Split(strings.TrimPrefix(args[0], "--query-gpu="), ","), 16)
		return []byte(answer), nil
	}
	b := metric.NewBatch(100)
	b.Reset(1)
	require.NoError(t, NewNvidia(run).Collect(t.Context(), b))
	m := map[string]float64{}
	for _, s := range b.Samples() {
		m[s.Labels.Get("__name__")] = s.V
	}
	require.Equal(t, .37, m["nvidia_smi_utilization_gpu_ratio"])
	require.Equal(t, float64(1024<<20), m["nvidia_smi_memory_used_bytes"])
	require.Equal(t, 70.5, m["nvidia_smi_power_draw_watts"])
	require.NotContains(t, m, "nvidia_smi_fan_speed_ratio", "what the card has not")
	answer = "garbage\n"
	require.Error(t, NewNvidia(run).Collect(t.Context(), b))
}

func TestSplit(t *testing.T) {
	for file, want := range map[string]string{"temp1_crit_alarm": "temp 1 crit_alarm", "pwm1": "pwm 1 ", "power01_input": "power 1 input", "beep": "beep 0 "} {
		kind, id, prop, ok := split(file)
		require.True(t, ok, file)
		require.Equal(t, want, kind+" "+id+" "+prop)
	}
	for _, file := range []string{"1temp", "temp1x", "temp99999999999999999999_x", "temp_"} {
		_, _, _, ok := split(file)
		require.False(t, ok, file)
	}
}
