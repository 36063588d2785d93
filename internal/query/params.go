package query

import (
	"fmt"
	"math"
	"strconv"
	"time"

	pm "github.com/prometheus/common/model"
)

// parseTime reads a time as Prometheus' API writes it: seconds since 1970 or
// RFC 3339.
func parseTime(s string) (time.Time, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if math.IsNaN(f) || math.Abs(f) > 1<<52 {
			return time.Time{}, fmt.Errorf("%q is no time", s)
		}
		sec, frac := math.Modf(f)
		return time.Unix(int64(sec), int64(math.Round(frac*1000)*1e6)).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time; write seconds since 1970 or 2026-01-02T15:04:05Z", s)
	}
	return t, nil
}

// parseStep reads a duration as Prometheus' API writes it: seconds, or 1h30m.
func parseStep(s string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if d := f * float64(time.Second); d > math.MinInt64 && d < math.MaxInt64 {
			return time.Duration(d), nil
		}
		return 0, fmt.Errorf("%q is too long", s)
	}
	d, err := pm.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration; write seconds or for example 1m30s", s)
	}
	return time.Duration(d), nil
}
