package model_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

// A fault names its field, whatever kind of value is wrong.
func TestDecodeNamesTheField(t *testing.T) {
	for body, want := range map[string]string{
		`{"name":"a","interval":20}`:     `interval: 20 is not a duration; write it as text with a unit, for example "20s"`,
		`{"name":"a","interval":"-5s"}`:  `interval: "-5s" is not a duration; write for example 20s, 5m or 1h30m`,
		`{"name":"a","timeout":{}}`:      `timeout: {} is not a duration; write it as text with a unit, for example "20s"`,
		`{"name":1}`:                     `name: is a JSON number; it must be a text`,
		`{"name":"a","copies":1.5}`:      `copies: is a JSON number 1.5; it must be a whole number`,
		`{"name":"a","labels":[]}`:       `labels: is a JSON array; it must be an object`,
		`{"name":"a","regions":"eu"}`:    `regions: is a JSON string; it must be a list`,
		`{"name":"a","evil":1}`:          `evil: there is no such field`,
		`{"name":"a","type":"http","x":`: `not valid JSON: unexpected EOF`,
	} {
		var c model.Check
		err := model.DecodeStrict([]byte(body), &c)
		var inv model.Invalid
		require.ErrorAs(t, err, &inv, body)
		require.EqualError(t, err, want, body)
	}
}
