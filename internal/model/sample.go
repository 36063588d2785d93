package model

import "github.com/prometheus/prometheus/model/labels"

// Sample is one value of one series. T is in milliseconds since 1970.
type Sample struct {
	Labels labels.Labels
	T      int64
	V      float64
}

// Batch is a set of samples that is stored together. The receiver must not
// keep it after it returns.
type Batch []Sample

// Names of labels; the last three are on every sample of a check.
const (
	MetricName  = "__name__" // the label that is a series' name
	LabelCheck  = "check"
	LabelRegion = "region"
	LabelProber = "prober"
)

// IsProbeLabel reports whether name is a label that samples of checks have of
// their own: it tells series of one check apart, and the record of a check that
// has a label of that name leaves it to them.
func IsProbeLabel(name string) bool {
	switch name {
	case "phase", "version", "cipher", "serving_status", "fingerprint_sha256", "subject", "issuer", "subjectalternative", "serialnumber":
		return true
	}
	return false
}
