package run

import (
	"os/exec"
	"syscall"
)

// EndWithParent has a child process end when this process is killed, so that
// nothing is left behind. Elsewhere than on Linux it does nothing.
func EndWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
}
