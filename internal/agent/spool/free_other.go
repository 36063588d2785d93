//go:build !linux && !darwin && !freebsd

package spool

import "math"

// free is not known on this system.
func free(string) (int64, error) { return math.MaxInt64, nil }
