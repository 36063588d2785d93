package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"time"
)

// Record is one object of the catalog. Its JSON is flat: the fields of the
// spec beside id, revision, created_at and updated_at.
type Record struct {
	Kind     string // resource, singular: "check"
	ID       string // ULID, given by the catalog
	Name     string // unique within the kind; also in Spec
	Revision int64  // rises with every change of the record
	Created  time.Time
	Updated  time.Time
	Spec     json.RawMessage // secrets in clear inside the process, sealed at rest, redacted towards people
}

// The kinds of record.
const (
	KindCheck       = "check"
	KindReceiver    = "receiver"
	KindRoute       = "route"
	KindInhibition  = "inhibition"
	KindInterval    = "interval" // a named set of times, for routes
	KindMaintenance = "maintenance"
	KindUser        = "user"
	KindKey         = "key"
	KindSetting     = "setting"
	KindRegion      = "region"
	KindNode        = "node"   // a server, witness or agent that joined
	KindToken       = "token"  // lets nodes join
	KindScrape      = "scrape" // a scrape_config of Prometheus and where it runs
	KindRules       = "rules"  // groups of recording and alerting rules
)

var nameRE = regexp.MustCompile(`^[\p{L}\p{N}][\p{L}\p{N} ._@:/+\-()]{0,127}$`)

// CheckName says whether s may name a record.
func CheckName(s string) error {
	if !nameRE.MatchString(s) {
		return &FieldError{Field: "name", Msg: "must be 1 to 128 letters, digits, spaces or any of . _ @ : / + - ( ), and begin with a letter or digit"}
	}
	return nil
}

// Typed decodes a JSON object that has one block named after its "type" into
// common and returns the block: {"type":"http","http":{…}} gives {…}. A block
// of another type, or any field that common does not have, is an error.
func Typed(data []byte, common any) (block json.RawMessage, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, DecodeError(err)
	}
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, DecodeError(err)
	}
	if head.Type != "" {
		block = fields[head.Type]
		delete(fields, head.Type)
	}
	rest, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	return block, DecodeStrict(rest, common)
}

// DecodeStrict decodes one JSON value, refusing unknown fields and anything after it.
func DecodeStrict(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return DecodeError(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Invalid{{Msg: "there is more after the JSON object; send one object"}}
	}
	return nil
}

var unknownRE = regexp.MustCompile(`unknown field "([^"]*)"`)

// DecodeError turns an error of encoding/json into one that names the field.
func DecodeError(err error) error {
	switch e := err.(type) {
	case *json.UnmarshalTypeError:
		if e.Type == durationType {
			return Invalid{{Field: e.Field, Msg: e.Value}}
		}
		return Invalid{{Field: e.Field, Msg: fmt.Sprintf("is a JSON %s; it must be %s", e.Value, jsonType(e.Type.Kind().String()))}}
	case *json.SyntaxError:
		return Invalid{{Msg: fmt.Sprintf("not valid JSON at byte %d: %s", e.Offset, e)}}
	case Invalid:
		return e
	case *FieldError:
		return Invalid{e}
	}
	if m := unknownRE.FindStringSubmatch(err.Error()); m != nil {
		return Invalid{{Field: m[1], Msg: "there is no such field"}}
	}
	return Invalid{{Msg: "not valid JSON: " + err.Error()}}
}

func jsonType(kind string) string {
	switch kind {
	case "struct", "map":
		return "an object"
	case "slice", "array":
		return "a list"
	case "bool":
		return "true or false"
	case "string":
		return "a text"
	case "float32", "float64":
		return "a number"
	}
	return "a whole number"
}
