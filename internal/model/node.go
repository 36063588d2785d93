package model

import (
	"slices"
	"time"
)

// NodeRole says what a process of ours is, and with it what its certificate
// lets it do.
type NodeRole string

// The roles of nodes.
const (
	RoleServer  NodeRole = "server"
	RoleWitness NodeRole = "witness" // votes in the configuration store and does nothing else
	RoleAgent   NodeRole = "agent"
)

// Addresses are where a server is reached by others, each host:port.
type Addresses struct {
	Cluster string `json:"cluster,omitempty"` // gRPC of servers and agents, mutual TLS
	Gossip  string `json:"gossip,omitempty"`
	Peer    string `json:"peer,omitempty"`   // of the configuration store, between its members
	Client  string `json:"client,omitempty"` // of the configuration store, for servers that are no members
	HTTP    string `json:"http,omitempty"`   // base URL of pages and API
}

// Node is the record of a server, witness or agent that has joined. Its ID is
// also in its certificate and is never given again, its name may be.
type Node struct {
	ID        string            `json:"name"` // ULID made by the node; the record's name, since that must be unique for ever
	Revision  int64             `json:"-"`
	Name      string            `json:"node"` // of the machine; unique among nodes that are not revoked
	Role      NodeRole          `json:"role"`
	Region    string            `json:"region"`
	Labels    map[string]string `json:"labels,omitempty"`
	Addresses Addresses         `json:"addresses,omitzero"`
	KeyHash   string            `json:"key_hash"`                 // SHA-256 of its public key (PKIX), hex
	TokenID   string            `json:"token,omitempty"`          // what it joined with
	Earlier   []string          `json:"earlier_tokens,omitempty"` // what it joined with before, newest last
	Version   string            `json:"version,omitempty"`        // of the program when it joined
	Joined    time.Time         `json:"joined,omitzero"`
	Revoked   bool              `json:"revoked,omitempty"`  // its certificate is worth nothing any more
	Draining  bool              `json:"draining,omitempty"` // it gets no work
	Checks    bool              `json:"checks,omitempty"`   // of an agent: it may be given checks, with their secrets, and votes for its region
}

// JoinedWith reports whether the node has used a token, as far as its record knows.
func (n Node) JoinedWith(token string) bool {
	return n.TokenID == token || slices.Contains(n.Earlier, token)
}

// MayCheck reports whether the servers let this agent run checks. That it wants
// to is another matter: only its own file says that.
func (n Node) MayCheck() bool {
	return n.Checks && !n.Revoked && n.checkable() == nil
}

// ValidateChecks says why a node cannot be allowed to run checks.
func (n Node) ValidateChecks() error {
	if n.Revoked {
		return Invalid{{Field: "checks", Msg: "is for hosts that are there: " + n.Name + " was removed from the cluster"}}
	}
	return n.checkable()
}

func (n Node) checkable() error {
	switch {
	case n.Role != RoleAgent:
		return Invalid{{Field: "checks", Msg: "is for agents: servers run checks unless they are drained, witnesses never do"}}
	case n.Region == "":
		return Invalid{{Field: "checks", Msg: "is for agents with a region, for which they vote; remove this one and join it again with a region"}}
	}
	return nil
}

// Token is the record of a token that lets nodes join. Its name is its id; its
// secret is nowhere.
type Token struct {
	Name    string    `json:"name"`
	Role    NodeRole  `json:"role"`
	Region  string    `json:"region,omitempty"` // empty: the node names its own
	Expires time.Time `json:"expires"`
	Uses    int       `json:"uses"`             // how often it may still be used
	Hash    string    `json:"hash"`             // SHA-256 of the secret, hex; hidden from people
	Used    []string  `json:"used,omitempty"`   // ids of nodes that have used it and may not be on record yet; see Node.JoinedWith
	Checks  bool      `json:"checks,omitempty"` // the agents that join with it may be given checks, and vote for Region
}

// ValidateChecks says why the agents of a token cannot be let run checks.
func (t Token) ValidateChecks() error {
	var inv Invalid
	if t.Checks && t.Role != RoleAgent {
		inv.Add("checks", "is for agents: servers run checks anyway, witnesses never do")
	}
	if t.Checks && t.Role == RoleAgent && t.Region == "" {
		inv.Add("region", "must be named for hosts that run checks: they vote for it")
	}
	return inv.Err()
}

// Peer is who is at the other end of a connection, as its certificate says.
// The zero value is a stranger without one.
type Peer struct {
	NodeID, Name, Region string
	Role                 NodeRole
	Expired              bool // the certificate has ended: it may be renewed, nothing else
}

// MemberState is what gossip thinks of a server.
type MemberState string

// The states of members.
const (
	MemberAlive   MemberState = "alive"
	MemberSuspect MemberState = "suspect" // does not answer; its work is taken over
	MemberDead    MemberState = "dead"
	MemberLeft    MemberState = "left" // ended on purpose
)

// Member is a server as gossip knows it.
type Member struct {
	ID, Name, Region string
	Role             NodeRole
	Version          string
	Addresses        Addresses
	Labels           map[string]string
	Load             float64       // share of its CPUs in use, 0 to 1
	Lag              time.Duration // age of the oldest sample that it has not delivered to a live server
	Behind           bool          // it lacks samples or events that others have
	Draining         bool          // it gets no work
	Serving          bool          // its store takes samples, its worker checks
	Started          time.Time     // when its process began
	State            MemberState
	Since            time.Time // of State, as this server saw it
	Self             bool
}
