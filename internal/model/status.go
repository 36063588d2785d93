package model

import "time"

// Status is the state of a check as its verdict owner sees it.
type Status string

// The states of a check. The number is the value of panoptes_check_status.
const (
	StatusPending     Status = "pending"     // 0: no decision yet
	StatusUp          Status = "up"          // 1
	StatusDown        Status = "down"        // 2
	StatusDegraded    Status = "degraded"    // 3: some regions fail, fewer than the policy asks for, or a soft condition fails
	StatusUnknown     Status = "unknown"     // 4: too many votes are missing to decide
	StatusMaintenance Status = "maintenance" // 5
	StatusPaused      Status = "paused"      // 6
)

// Statuses lists all states; the index is the code.
var Statuses = []Status{StatusPending, StatusUp, StatusDown, StatusDegraded, StatusUnknown, StatusMaintenance, StatusPaused}

// Code returns the value of the series panoptes_check_status, -1 when s is no state.
func (s Status) Code() int {
	for i, v := range Statuses {
		if v == s {
			return i
		}
	}
	return -1
}

// CheckState is what GET of a check answers under "state".
type CheckState struct {
	Status  Status                 `json:"status"`
	Since   time.Time              `json:"since"`
	Message string                 `json:"message"`
	Code    string                 `json:"code,omitempty"` // stable code of the message
	Regions map[string]RegionState `json:"regions"`
}

// RegionState is the last vote of a region.
type RegionState struct {
	Status   Status    `json:"status"` // up, down, degraded, unknown
	At       time.Time `json:"at"`
	Message  string    `json:"message"`
	Duration float64   `json:"duration_seconds"`
	Prober   string    `json:"prober"`
}

// Result is what one run of a check found. Samples carry labels beyond the
// name only; who stores them adds check, region, prober and the check's own.
type Result struct {
	CheckID  string
	Region   string
	Prober   string // node id of the worker
	Start    time.Time
	Duration time.Duration
	Success  bool   // the target is as it should be (before Inverted is looked at)
	Degraded bool   // it works, but a condition with severity degraded failed
	Message  string // what was found, in one line
	Samples  []Sample
	Evidence []byte // JSON: phases, address, status, headers, first bytes; nil when all is well
	Confirm  bool   // made on demand, to confirm another region's failure
	Abstain  bool   // the worker found itself cut off; the result does not vote
	// Untried says that the worker could not or may not try: no kind of check, no
	// permission, an address that its policy refuses. The result does not vote.
	Untried   bool `json:",omitempty"`
	Assertion []AssertionResult
}

// AssertionResult is one line of "conditions" or "expect_*" and what was found.
type AssertionResult struct {
	Text   string `json:"text"`
	Found  string `json:"found"`
	Passed bool   `json:"passed"`
}
