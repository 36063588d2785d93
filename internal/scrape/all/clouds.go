//go:build clouds

package all

// These make the program half as large again, and may ask with the identity of
// the machine that the server runs on, which is then that of everyone who edits
// jobs.
import (
	_ "github.com/prometheus/prometheus/discovery/aws"
	_ "github.com/prometheus/prometheus/discovery/azure"
	_ "github.com/prometheus/prometheus/discovery/gce"
)
