// Package sensor reads temperatures, fans, voltages, batteries, frequencies,
// memory errors and graphics cards.
package sensor

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Hwmon reads /sys/class/hwmon, what lm-sensors shows.
type Hwmon struct {
	sys source.Tree
	r   source.Reader
	// chips and the files of their sensors are looked for anew every refresh rounds.
	chips []chip
	round int
}

type chip struct {
	name, label string
	sensors     []sensor
}

type sensor struct {
	kind, name string // "temp", "temp1"
	label      string
	bare       bool // the sensor has a file without property
	files      []property
}

type property struct {
	name, path string
	metric     string
	factor     float64
}

const (
	refresh    = 20
	maxChips   = 256
	maxEntries = 2048 // of a directory
)

// NewHwmon makes the collector "hwmon".
func NewHwmon(sys source.Tree) *Hwmon { return &Hwmon{sys: sys} }

// Name implements metric.Collector.
func (c *Hwmon) Name() string { return "hwmon" }

// Collect implements metric.Collector.
func (c *Hwmon) Collect(ctx context.Context, out *metric.Batch) error {
	if c.round%refresh == 0 {
		c.look()
	}
	c.round++
	if len(c.chips) == 0 {
		return metric.ErrAbsent
	}
	for _, ch := range c.chips {
		if ch.label != "" {
			out.Add("node_hwmon_chip_names", 1, "chip", ch.name, "chip_name", ch.label)
		}
		for _, s := range ch.sensors {
			if s.label != "" {
				out.Add("node_hwmon_sensor_label", 1, "chip", ch.name, "sensor", s.name, "label", s.label)
			}
			for _, p := range s.files {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if v, ok := c.number(p.path); ok {
					out.Add(p.metric, v*p.factor, "chip", ch.name, "sensor", s.name)
				}
			}
		}
	}
	return nil
}

// number reads a number that may be negative.
func (c *Hwmon) number(path string) (float64, bool) { return number(&c.r, path) }

func number(r *source.Reader, path string) (float64, bool) {
	s := r.Text(path)
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil && s != ""
}

func (c *Hwmon) look() {
	c.chips = c.chips[:0]
	dir := c.sys.Path("class/hwmon")
	count := map[string]int{}
	var dirs []string
	for _, n := range source.Names(dir, maxChips) {
		d := dir + "/" + n
		ch := chip{label: clean(c.r.Text(d + "/name"))}
		if ch.name = c.chipName(d); ch.name == "" {
			continue
		}
		count[ch.name]++
		c.chips = append(c.chips, ch)
		dirs = append(dirs, d)
	}
	seen := map[string]int{}
	for i := range c.chips {
		ch := &c.chips[i]
		if count[ch.name] > 1 {
			// Two chips below one device are told apart by their names, then
			// by a number.
			if ch.label != "" {
				ch.name += "_" + ch.label
			}
			if seen[ch.name]++; seen[ch.name] > 1 {
				ch.name += "_" + strconv.Itoa(seen[ch.name]-1)
			}
		}
		c.sensors(ch, dirs[i])
	}
}

func (c *Hwmon) chipName(dir string) string {
	if dev, err := filepath.EvalSymlinks(dir + "/device"); err == nil {
		name, kind := clean(filepath.Base(dev)), clean(filepath.Base(filepath.Dir(dev)))
		if kind != "" && name != "" {
			return kind + "_" + name
		}
	}
	if n := clean(c.r.Text(dir + "/name")); n != "" {
		return n
	}
	return clean(filepath.Base(dir))
}

// clean makes a part of a name as node_exporter does: small letters, digits
// and underscores, none at the ends.
func clean(s string) string {
	return strings.Trim(metric.Sanitize(strings.ToLower(s)), "_")
}

var sensorKinds = []string{"in", "cpu", "fan", "pwm", "temp", "curr", "power", "energy", "humidity", "intrusion", "freq"}

func (c *Hwmon) sensors(ch *chip, dir string) {
	found := map[string]*sensor{}
	for _, d := range [...]string{dir, dir + "/device"} {
		for _, f := range source.Names(d, maxEntries) {
			kind, id, prop, ok := split(f)
			if !ok || !slices.Contains(sensorKinds, kind) {
				continue
			}
			name := kind + id
			s := found[name]
			if s == nil {
				s = &sensor{kind: kind, name: name}
				found[name] = s
			}
			if prop == "label" {
				s.label = c.r.Text(d + "/" + f)
				continue
			}
			s.bare = s.bare || prop == ""
			s.files = append(s.files, property{name: prop, path: d + "/" + f})
		}
	}
	for _, n := range metric.SortedKeys(found) {
		s := found[n]
		kept := s.files[:0]
		for _, p := range s.files {
			if p.metric, p.factor = unit(s.kind, p.name, s.bare); p.metric != "" {
				kept = append(kept, p)
			}
		}
		s.files = kept
		ch.sensors = append(ch.sensors, *s)
	}
}

// split cuts "temp1_crit_alarm" into temp, 1 and crit_alarm.
func split(file string) (kind, id, prop string, ok bool) {
	i := strings.IndexAny(file, "0123456789_")
	if i <= 0 {
		return file, "0", "", i < 0 && file != ""
	}
	kind, rest := file[:i], file[i:]
	j := 0
	for j < len(rest) && rest[j] >= '0' && rest[j] <= '9' {
		j++
	}
	id, rest = rest[:j], rest[j:]
	switch {
	case id == "":
		id = "0"
	default:
		n, err := strconv.Atoi(id)
		if err != nil {
			return "", "", "", false
		}
		id = strconv.Itoa(n)
	}
	if rest == "" {
		return kind, id, "", true
	}
	prop, ok = strings.CutPrefix(rest, "_")
	return kind, id, prop, ok && prop != ""
}

// unit names the metric of a property and the factor to base units.
func unit(kind, prop string, bare bool) (string, float64) {
	name := "node_hwmon_" + kind
	if prop == "input" {
		if bare {
			name += "_input"
		}
	} else if prop != "" {
		name += "_" + clean(prop)
	}
	switch {
	case prop == "fault" || prop == "alarm":
		return name, 1
	case prop == "beep":
		return name + "_enabled", 1
	case kind == "in" || kind == "cpu":
		return name + "_volts", .001
	case kind == "temp" && prop != "type":
		return name + "_celsius", .001
	case kind == "curr":
		return name + "_amps", .001
	case kind == "energy":
		return name + "_joule_total", 1e-6
	case kind == "power" && prop == "accuracy":
		return name, 1e-6
	case kind == "power" && strings.HasPrefix(prop, "average_interval"):
		return name + "_seconds", .001
	case kind == "power":
		return name + "_watt", 1e-6
	case kind == "humidity":
		return name, 1e-6
	case kind == "fan" && (prop == "input" || prop == "min" || prop == "max" || prop == "target"):
		return name + "_rpm", 1
	case kind == "freq" && prop == "input":
		return name + "_freq_mhz", 1e-6
	case kind == "freq":
		return "", 0
	}
	return name, 1
}
