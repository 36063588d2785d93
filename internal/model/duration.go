package model

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	pm "github.com/prometheus/common/model"
)

// Duration is a time.Duration that is written "1m30s", "2h" or "30d" in JSON
// and YAML, Prometheus' spelling.
type Duration time.Duration

// D returns the time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String spells d the way ParseDuration reads it. Parts below a millisecond are cut.
func (d Duration) String() string {
	if d < 0 {
		return "-" + pm.Duration(-d).String()
	}
	return pm.Duration(d).String()
}

// ParseDuration reads "1h30m", "15s", "250ms", "30d".
func ParseDuration(s string) (Duration, error) {
	d, err := pm.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration; write for example 20s, 5m or 1h30m", s)
	}
	return Duration(d), nil
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

var durationType = reflect.TypeFor[Duration]()

// UnmarshalJSON accepts a string only; a bare number has no unit. Its error is
// of the one type that encoding/json adds the field to; DecodeError reads it.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return &json.UnmarshalTypeError{Type: durationType, Value: fmt.Sprintf("%s is not a duration; write it as text with a unit, for example \"20s\"", b)}
	}
	if err := d.UnmarshalText([]byte(s)); err != nil {
		return &json.UnmarshalTypeError{Type: durationType, Value: err.Error()}
	}
	return nil
}
