package network

// Connections is a picture of the sockets of a host.
type Connections struct {
	States    map[string]int `json:"states,omitempty"`    // TCP, by state
	Listeners []Listener     `json:"listeners,omitempty"` // at most 200, by port
	Peers     []Peer         `json:"peers,omitempty"`     // the 20 with the most connections
}

// Listener is a socket that waits for others.
type Listener struct {
	Protocol    string `json:"protocol"`
	Address     string `json:"address"`
	Port        uint16 `json:"port"`
	Established int    `json:"established"` // connections at this port
}

// Peer is an address and how many connections it has with this host.
type Peer struct {
	Address     string `json:"address"`
	Connections int    `json:"connections"`
}
