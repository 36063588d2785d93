//go:build !unix

package run

import (
	"errors"
	"fmt"
)

// Replace puts another program in the place of this process: same id, same
// parent, nothing else of it is left. It returns only when that fails.
func Replace(program string, _, _ []string) error {
	return fmt.Errorf("begin %s anew: %w", program, errors.ErrUnsupported)
}
