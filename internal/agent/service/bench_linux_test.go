package service

import (
	"testing"

	"panoptes/internal/model"
)

// BenchmarkProcesses is a look for one name among the processes of this host.
func BenchmarkProcesses(b *testing.B) {
	p := newProcesses("/proc")
	b.ReportAllocs()
	for b.Loop() {
		p.begin(b.Context())
		if _, err := p.Status(b.Context(), model.HostService{Kind: "process", Name: "init"}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(p.list)), "processes")
}
