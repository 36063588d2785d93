package model

import (
	"encoding/json"
	"log/slog"
)

// Redacted stands for a secret wherever it is shown. Written back, it means
// "leave the stored secret as it is".
const Redacted = "<redacted>"

// Secret is a string that does not show itself in logs, errors or %v. Its JSON
// is the clear text: records are sealed and redacted by the catalog, which
// finds fields of this type (see catalog.SecretPaths).
type Secret string

// String returns Redacted, or nothing for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return Redacted
}

// GoString keeps %#v from showing the secret.
func (s Secret) GoString() string { return s.String() }

// LogValue keeps slog from showing the secret, in JSON too.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Reveal returns the clear text.
func (s Secret) Reveal() string { return string(s) }

// MarshalJSON writes the clear text.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(string(s)) }
