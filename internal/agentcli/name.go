package agentcli

import "os"

// hostName reports whether a name is that of the machine, which an agent takes
// when its operator chose none.
func hostName(name string) bool {
	h, err := os.Hostname()
	return err == nil && h == name
}
