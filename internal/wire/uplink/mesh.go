package uplink

import "panoptes/internal/model"

// Mesh are the hosts that an agent looks at.
type Mesh struct {
	Interval model.Duration `json:"interval,omitempty"` // between two rounds; default 15s
	Port     int            `json:"port,omitempty"`     // asked by TCP where the agent may not send ICMP; default 22
	Peers    []Peer         `json:"peers,omitempty"`    // at most model.MaxMeshPeers
}

// Peer is another host with an agent.
type Peer struct {
	Name      string   `json:"name"`
	Region    string   `json:"region,omitempty"`
	Addresses []string `json:"addresses"` // at most MaxPeerAddresses; one of them is reached, perhaps
}

// MaxPeerAddresses is how many addresses of a peer are tried.
const MaxPeerAddresses = 4
