package api

import (
	"encoding/json"
	"math"
	"strconv"
)

// number is a float whose NaN and infinities, which JSON lacks, are texts.
type number float64

// MarshalJSON writes a number, or "NaN", "+Inf", "-Inf".
func (n number) MarshalJSON() ([]byte, error) {
	f := float64(n)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return json.Marshal(strconv.FormatFloat(f, 'f', -1, 64))
	}
	return json.Marshal(f)
}
