package selfwatch

import (
	"fmt"
	"time"
)

// Part is what selfwatch has to say about this server's health.
type Part struct {
	Name    string
	Level   string // L1 process, L2 ports, L3 functions, L4 data
	Status  string // ok, warning, critical
	Message string
}

// Parts returns one part for each alert that concerns this server, one for the
// dead man's switch and one for the canary when they are set, and one that says
// that nothing is wrong.
func (w *Watch) Parts() []Part {
	var out []Part
	for _, a := range w.Firing() {
		if s := a.Labels["server"]; s != w.cfg.Name && s != "all" {
			continue // of another server, which says it itself
		}
		p := Part{Name: a.Name, Status: "warning", Message: a.Annotations["description"]}
		if r := find(a.Name); r != nil {
			p.Level = r.Level
		}
		if a.Labels["severity"] == "critical" {
			p.Status = "critical"
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		out = append(out, Part{"self-monitoring", "L1", "ok", "nothing is wrong with this server"})
	}
	d := &w.deadMan
	d.mu.Lock()
	if d.on {
		p := Part{"dead man's switch", "L3", "ok", "is called and answers"}
		switch {
		case d.silent != nil:
			p.Status, p.Message = "warning", fmt.Sprintf("is not called, because: %s", d.silent)
		case d.err != nil:
			p.Status, p.Message = "warning", fmt.Sprintf("does not answer: %s", d.err)
		}
		out = append(out, p)
	}
	d.mu.Unlock()
	c := &w.canary
	c.mu.Lock()
	if c.receiver != "" && !c.owned.IsZero() {
		p := Part{"test notification", "L3", "ok", "the first one is due"}
		switch {
		case c.err != "":
			p.Status, p.Message = "warning", fmt.Sprintf("did not get through %s: %s", c.receiver, c.err)
		case !c.success.IsZero():
			p.Message = fmt.Sprintf("got through %s %s ago", c.receiver, time.Since(c.success).Round(time.Second))
		}
		out = append(out, p)
	}
	c.mu.Unlock()
	return out
}
