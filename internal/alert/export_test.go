package alert

import (
	"bufio"
	"bytes"
	"testing"
	"time"

	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// StandStill makes the server believe that its process did not run for d.
func (a *Alerting) StandStill(d time.Duration) {
	a.gate.mu.Lock()
	defer a.gate.mu.Unlock()
	a.gate.ticked = time.Now().Add(-d)
}

// Ahead makes the entries of a notification log those of a clock that is d ahead.
func Ahead(t *testing.T, state []byte, d time.Duration) []byte {
	t.Helper()
	var out bytes.Buffer
	r := bufio.NewReader(bytes.NewReader(state))
	for {
		var e nflogpb.MeshEntry
		if protodelim.UnmarshalFrom(r, &e) != nil {
			return out.Bytes()
		}
		e.Entry.Timestamp = timestamppb.New(e.Entry.Timestamp.AsTime().Add(d))
		if _, err := protodelim.MarshalTo(&out, &e); err != nil {
			t.Fatal(err)
		}
	}
}
