// Package systemd reads the state of units over the system's bus.
package systemd

// Unit is one unit of a snapshot.
type Unit struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Active      string `json:"active"`
	Sub         string `json:"sub,omitempty"`
}
