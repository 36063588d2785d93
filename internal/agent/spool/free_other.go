//go:build !linux && !darwin && !freebsd

package spool

import (
	"errors"
	"math"
	"syscall"
)

// full reports whether a write failed for want of space.
func full(err error) bool {
	const windowsFull = syscall.Errno(112) // as Windows says it
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, windowsFull)
}

// free is not known on this system.
func free(string) (int64, error) { return math.MaxInt64, nil }
