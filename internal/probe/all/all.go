// Package all lists the kinds of check.
package all

import (
	"panoptes/internal/probe"
	"panoptes/internal/probe/dns"
	"panoptes/internal/probe/grpc"
	"panoptes/internal/probe/http"
	"panoptes/internal/probe/icmp"
	"panoptes/internal/probe/push"
	"panoptes/internal/probe/tcp"
	"panoptes/internal/probe/tls"
	"panoptes/internal/probe/websocket"
)

// Kinds returns all kinds in the order in which people should see them.
func Kinds() []probe.Kind {
	return []probe.Kind{
		http.Kind{},
		tcp.Kind{},
		icmp.Kind{},
		dns.Kind{},
		tls.Kind{},
		websocket.Kind{},
		grpc.Kind{},
		push.Kind{},
	}
}
