package api

import (
	"context"
	"time"

	"panoptes/internal/model"
)

// Cluster knows the servers and agents, and changes what is decided about
// them. Its id arguments are node ids. Its errors are those of package model;
// a refusal that another flag would overcome is a model.ErrConflict that says
// so. What changes something leaves its own audit event.
type Cluster interface {
	// Nodes returns all nodes on record and this one. What only a node itself
	// knows (health, views, relay, copy) is left out for those that have not
	// answered when ctx ends; the answer must not come later than that.
	Nodes(ctx context.Context) []Node
	// Cluster says whether configuration can be changed, and why not. It is
	// asked every other second and must not wait for other servers.
	Cluster(ctx context.Context) ClusterInfo
	Drain(ctx context.Context, actor, id string, draining bool) error
	Promote(ctx context.Context, actor, id string) error
	MoveLeader(ctx context.Context, actor, id string) error
	// Remove ends a node's membership and revokes its certificate. A live node
	// is refused unless force is set.
	Remove(ctx context.Context, actor, id string, force bool) error
	SetLabels(ctx context.Context, actor, id string, labels map[string]string) error
	// AllowChecks lets an agent run checks and vote, or does not any more. It is
	// model.Invalid for nodes that are no agents with a region.
	AllowChecks(ctx context.Context, actor, id string, allow bool) error
	// Check compares this server's samples and events with those of the others
	// now and repairs what differs.
	Check(ctx context.Context) (CheckReport, error)
	CA(ctx context.Context) (CAInfo, error)
	// RotateCA begins a roll-over to a new root; FinishCA ends it, once all
	// nodes have certificates of the new one.
	RotateCA(ctx context.Context, actor string) (CAInfo, error)
	FinishCA(ctx context.Context, actor string) (CAInfo, error)
	// NewToken makes a token and returns its text, which is kept nowhere. Of want
	// count Role, Region, Checks, Expires and Uses.
	NewToken(ctx context.Context, actor string, want model.Token) (model.Token, string, error)
}

// Node is a server, witness or agent as people see it.
type Node struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Role      model.NodeRole    `json:"role"`
	Region    string            `json:"region"`
	Labels    map[string]string `json:"labels"`
	Version   string            `json:"version"`
	Addresses model.Addresses   `json:"addresses"`
	State     string            `json:"state"` // alive, suspect, dead, left, unknown
	Since     time.Time         `json:"since,omitzero"`
	Started   time.Time         `json:"started,omitzero"` // its process
	Self      bool              `json:"self"`
	Joined    time.Time         `json:"joined,omitzero"`
	Revoked   bool              `json:"revoked"`
	Draining  bool              `json:"draining"`
	Control   string            `json:"control"` // leader, voter, learner, client, none
	Load      float64           `json:"load"`    // share of its CPUs in use, 0 to 1
	Lag       float64           `json:"lag_seconds"`
	Behind    bool              `json:"behind"`       // it lacks samples or events that others have
	Skew      float64           `json:"skew_seconds"` // of its clock against this server's

	// Of agents: one runs checks when both are true.
	ChecksAllowed bool `json:"checks_allowed,omitempty"` // by the servers: it may be given checks, and votes
	ChecksOffered bool `json:"checks_offered,omitempty"` // by its own file

	// Only what the node itself has said.
	Health *NodeHealth       `json:"health,omitempty"`
	Views  map[string]string `json:"views,omitempty"` // name of another server: its state, as this node sees it
	Relay  []RelayState      `json:"relay,omitempty"`
	Copy   *CopyState        `json:"copy,omitempty"`
	Checks int               `json:"checks"` // that it runs now
}

// NodeHealth is a node's own word about itself.
type NodeHealth struct {
	Status string `json:"status"` // ok, warning, critical
	Score  int    `json:"score"`  // 0 to 100
}

// RelayState is what a node still holds for another one.
type RelayState struct {
	To        string     `json:"to"` // name
	Bytes     int64      `json:"bytes"`
	Oldest    *time.Time `json:"oldest"` // sample or event; nil when there is none
	Connected bool       `json:"connected"`
	Dropped   bool       `json:"dropped"` // something was dropped for good; the other one copies it
	Error     string     `json:"error"`
}

// CopyState is how whole a node's copies of samples and events are.
type CopyState struct {
	Copying    bool       `json:"copying"`
	Source     string     `json:"source"` // name
	Done       int64      `json:"done"`   // bytes
	Total      int64      `json:"total"`  // bytes
	Complete   bool       `json:"complete"`
	LastCheck  *time.Time `json:"last_check"` // comparison with the others
	Mismatches int        `json:"mismatches"` // found by it
	Repaired   int        `json:"repaired"`
}

// ClusterInfo is the cluster as this server sees it.
type ClusterInfo struct {
	ID       string   `json:"id"`
	Self     string   `json:"self"`   // name of this server
	Leader   string   `json:"leader"` // name of the configuration store's leader; empty when there is none
	Writable bool     `json:"writable"`
	Reason   string   `json:"reason"` // why it is not writable
	Quorum   int      `json:"quorum"` // voters that must be together
	Voters   int      `json:"voters"`
	Split    bool     `json:"split"` // servers that should be there are not reached
	Advice   []Advice `json:"advice"`
}

// Advice is something that an administrator should do.
type Advice struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// CheckReport is what a comparison of stores found.
type CheckReport struct {
	Windows    int     `json:"windows"` // compared
	Mismatches int     `json:"mismatches"`
	Repaired   int     `json:"repaired"`
	Seconds    float64 `json:"seconds"`
}

// CAInfo is the state of the certificate authority.
type CAInfo struct {
	Roots []CARoot `json:"roots"`
	State string   `json:"state"` // stable, rotating
	Ready bool     `json:"ready"` // rotating: all nodes have certificates of the new root
	// Waiting names the servers on record that have not followed yet.
	Waiting []string `json:"waiting,omitempty"`
}

// CARoot is a root certificate that is believed.
type CARoot struct {
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
	KeyHash  string    `json:"key_hash"` // what tokens carry
	Current  bool      `json:"current"`  // it signs
}

// SelfRule is a rule by which the servers watch themselves, with its defaults.
// What people change of it is the setting "self-monitoring".
type SelfRule struct {
	Name      string            `json:"name"`
	Threshold float64           `json:"threshold"` // in Unit
	Unit      string            `json:"unit"`      // "%", "s", "h", "count"; empty: there is no threshold
	Min       float64           `json:"min"`       // of Threshold
	Max       float64           `json:"max"`
	For       model.Duration    `json:"for"`
	Severity  string            `json:"severity"`
	Level     string            `json:"level"` // of health that it concerns
	Title     map[string]string `json:"title"` // en, zh-CN
	Runbook   map[string]string `json:"runbook"`
}
