//go:build tools

// Package prometheus pins the Prometheus that benchmarks run beside us.
package prometheus

import _ "github.com/prometheus/prometheus/cmd/prometheus"
