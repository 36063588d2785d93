package agentcli

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"panoptes/internal/wire/uplink"
)

// leaving finds out why the process is told to end: a machine that goes down
// says so while it does.
func leaving() string {
	if runtime.GOOS != "linux" {
		return uplink.ByeStop
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return uplink.ByeStop
	}
	// What systemd works on tells: a target of shutdown is begun.
	cmd := exec.Command("systemctl", "list-jobs", "--no-legend", "--no-pager", "--plain")
	timer := time.AfterFunc(700*time.Millisecond, func() {
		if cmd.Process != nil {
			_ = cmd.Process.Kill()
		}
	})
	defer timer.Stop()
	out, err := cmd.Output()
	if err != nil {
		return uplink.ByeStop
	}
	return leavingFor(string(out))
}

// leavingFor reads the list of jobs.
func leavingFor(jobs string) string {
	switch {
	case strings.Contains(jobs, "reboot.target"), strings.Contains(jobs, "kexec.target"), strings.Contains(jobs, "soft-reboot.target"):
		return uplink.ByeReboot
	case strings.Contains(jobs, "shutdown.target"), strings.Contains(jobs, "poweroff.target"), strings.Contains(jobs, "halt.target"):
		return uplink.ByeShutdown
	}
	return uplink.ByeStop
}
