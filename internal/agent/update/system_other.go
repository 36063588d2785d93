//go:build !unix

package update

import (
	"math"
	"os/exec"
	"runtime"
)

const (
	hereOS   = runtime.GOOS
	hereArch = runtime.GOARCH
)

// Possible reports whether a program can be replaced here.
func Possible() error { return ErrSystem }

func free(string) (int64, error) { return math.MaxInt64, nil }

func prepare(*exec.Cmd) {}

func terminate(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func become(string, []string, []string) error { return ErrSystem }
