//go:build unix

package run

import (
	"fmt"
	"syscall"
)

// Replace puts another program in the place of this process: same id, same
// parent, nothing else of it is left. It returns only when that fails.
func Replace(program string, args, env []string) error {
	if err := syscall.Exec(program, args, env); err != nil {
		return fmt.Errorf("begin %s anew: %w", program, err)
	}
	return nil
}
