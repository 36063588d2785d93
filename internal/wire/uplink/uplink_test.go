package uplink_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

func TestDataAndAckTravel(t *testing.T) {
	for _, want := range []uplink.Data{
		{Lane: uplink.Live, Start: true, Seq: 1, Frame: []byte{1, 2, 3}},
		{Lane: uplink.Backlog, Known: true, Seq: 1 << 40, Frame: []byte{}},
	} {
		k, b, err := uplink.Split(want.Append(nil))
		require.NoError(t, err)
		require.Equal(t, uplink.KindData, k)
		got, err := uplink.ParseData(b)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(want, got))
	}
	want := uplink.Ack{Lane: uplink.Backlog, Seq: 1 << 33, Refused: 7}
	k, b, err := uplink.Split(want.Encode())
	require.NoError(t, err)
	require.Equal(t, uplink.KindAck, k)
	got, err := uplink.ParseAck(b)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestACheckKeepsIdAndRevision(t *testing.T) {
	c := model.Check{ID: "01J", Revision: 7, Name: "shop", Type: "http", Target: "https://shop.example/", Block: json.RawMessage(`{"method":"HEAD"}`)}
	b, err := uplink.Encode(uplink.KindChecks, uplink.Checks{Put: []uplink.Check{uplink.Of(c)}})
	require.NoError(t, err)
	got, err := uplink.Decode[uplink.Checks](b[1:], 1<<20)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(c, got.Put[0].Unwrap()))
	require.Equal(t, "01J", uplink.SplitCheckKey(uplink.CheckKey("01J", 7)))
}

func TestHelloIsBounded(t *testing.T) {
	h := uplink.Hello{Run: "r", Time: time.Now()}
	require.NoError(t, h.Validate())
	h.Labels = map[string]string{"check": "shop"}
	require.ErrorContains(t, h.Validate(), "labels.check")
	h = uplink.Hello{Addresses: make([]string, 17)}
	require.ErrorContains(t, h.Validate(), "run")
	require.ErrorContains(t, h.Validate(), "addresses")
	_, err := uplink.Decode[uplink.Hello](make([]byte, 100), 99)
	require.ErrorIs(t, err, model.ErrTooLarge)
	_, err = uplink.Decode[uplink.Hello]([]byte(`{"run":1}`), 99)
	require.ErrorIs(t, err, uplink.ErrMessage)
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte("D\x01\x01abc"))
	f.Add([]byte("A\x00\x05\x00"))
	f.Add([]byte(`H{"run":"x"}`))
	f.Add([]byte("h\x80\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, c, err := uplink.Split(b)
		if err != nil {
			return
		}
		switch k {
		case uplink.KindData:
			if d, err := uplink.ParseData(c); err == nil {
				k2, c2, err := uplink.Split(d.Append(nil))
				require.NoError(t, err)
				require.Equal(t, k, k2)
				d2, err := uplink.ParseData(c2)
				require.NoError(t, err)
				require.Equal(t, d, d2)
			}
		case uplink.KindAck:
			if a, err := uplink.ParseAck(c); err == nil {
				a2, err := uplink.ParseAck(a.Encode()[1:])
				require.NoError(t, err)
				require.Equal(t, a, a2)
			}
		case uplink.KindBeat:
			if at, ok := uplink.BeatTime(c); ok {
				require.Equal(t, c[:8], uplink.AppendBeat(nil, at)[1:])
			}
		case uplink.KindHello:
			if h, err := uplink.Decode[uplink.Hello](c, uplink.MaxHello); err == nil {
				_ = h.Validate()
			}
		}
	})
}
