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
