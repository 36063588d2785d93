//go:build !linux && !darwin && !freebsd

package agent

import "time"

// machineID and boot are not known on this system: a restart of the machine is
// not told apart from one of the agent.
func machineID() string { return "" }

func boot() (string, time.Time) { return "", time.Time{} }
