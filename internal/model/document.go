package model

import (
	"encoding/json"

	"sigs.k8s.io/yaml"
)

// Document is a record as apply takes it and export prints it.
type Document struct {
	Kind string          `json:"kind"`
	Name string          `json:"name"`
	Spec json.RawMessage `json:"spec"`
}

// YAML writes the document with sorted keys.
func (d Document) YAML() (string, error) {
	b, err := yaml.Marshal(d)
	return string(b), err
}
