package alert

import (
	"bytes"
	"fmt"
	"time"

	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// logAfter writes an entry of the notification log when the one before was made
// by a server whose clock is ahead. The log itself would keep the older entry,
// and the notification would be sent again and again until our clock is there.
func (a *Alerting) logAfter(r *nflogpb.Receiver, key string, firing, resolved []uint64, expiry time.Duration) (bool, error) {
	entries, err := a.nflog.Query(nflog.QGroupKey(key), nflog.QReceiver(r))
	if err != nil || len(entries) != 1 || !entries[0].Timestamp.AsTime().After(time.Now()) {
		return false, nil // none, or nothing special: the log says itself what is wrong
	}
	at := entries[0].Timestamp.AsTime().Add(time.Millisecond)
	if expiry <= 0 || expiry > logRetention {
		expiry = logRetention
	}
	e := &nflogpb.MeshEntry{
		Entry: &nflogpb.Entry{
			Receiver: r, GroupKey: []byte(key), Timestamp: timestamppb.New(at), FiringAlerts: firing, ResolvedAlerts: resolved,
			ReceiverData: entries[0].ReceiverData,
		},
		ExpiresAt: timestamppb.New(at.Add(expiry)),
	}
	var buf bytes.Buffer
	if _, err := protodelim.MarshalTo(&buf, e); err != nil {
		return false, fmt.Errorf("encode entry of the notification log: %w", err)
	}
	b := buf.Bytes()
	if err := a.nflog.Merge(b); err != nil {
		return false, fmt.Errorf("write to the notification log: %w", err)
	}
	// Merging passes on small entries only; a second time does no harm.
	a.logs.append(b)
	a.deps.Broadcast("nflog", b)
	return true, nil
}
