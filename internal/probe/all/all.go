// Package all lists the kinds of check.
package all

import (
	"panoptes/internal/probe"
	"panoptes/internal/probe/dns"
	"panoptes/internal/probe/http"
	"panoptes/internal/probe/push"
	"panoptes/internal/probe/tcp"
)

// Kinds returns all kinds in the order in which people should see them.
func Kinds() []probe.Kind {
	return []probe.Kind{
		http.Kind{},
		tcp.Kind{},
		dns.Kind{},
		push.Kind{},
	}
}
