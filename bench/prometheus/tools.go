//go:build tools

// Package prometheus pins the Prometheus that benchmarks and tests run beside us.
package prometheus

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
