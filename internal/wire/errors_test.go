package wire

import (
	"context"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"panoptes/internal/model"
)

// What a peer answers with is hostile until shown otherwise.
func FuzzErrorFromPeer(f *testing.F) {
	f.Add(uint32(codeInvalid), `[{"Field":"a","Msg":"b"}]`)
	f.Add(uint32(codeInvalid), `[null,{}]`)
	f.Add(uint32(codeInvalid), `{"Field":1}`)
	f.Add(uint32(codeNotFound), "x\xff")
	f.Add(uint32(codes.Unavailable), "")
	f.Fuzz(func(t *testing.T, code uint32, text string) {
		if code == 0 {
			return
		}
		err := fromStatus(context.Background(), "a.b", "c:1", status.Error(codes.Code(code), text))
		require.Error(t, err)
		_ = err.Error()
		var inv model.Invalid
		if errors.As(err, &inv) {
			for _, fe := range inv {
				require.NotNil(t, fe)
			}
		}
		// And what we pass on ourselves stays small and well-formed.
		s, ok := status.FromError(toStatus(err, true))
		require.True(t, ok)
		require.Less(t, len(s.Message()), 2*maxErrorText+100)
	})
}

func TestLongErrorsAreCut(t *testing.T) {
	long := strings.Repeat("ä", 10_000) + "\xff"
	inv := model.Invalid{}
	for range 1000 {
		inv.Add(long, "%s", long)
	}
	for _, err := range []error{errors.New(long), model.ErrLimit, inv, model.Invalid{{Field: "\xff\xff\xff\xff", Msg: long}}} {
		s, ok := status.FromError(toStatus(err, true))
		require.True(t, ok)
		require.Less(t, len(s.Message()), 2*maxErrorText)
		require.True(t, utf8.ValidString(s.Message()))
	}
	back := fromStatus(context.Background(), "", "", toStatus(inv, true))
	require.ErrorAs(t, back, &inv)
	require.Len(t, inv, 1)
}
