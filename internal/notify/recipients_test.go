package notify_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/notify"
)

// fussy refuses recipients that a test names.
type fussy struct {
	mu  sync.Mutex
	who map[string]string // answer by part of the address
}

func (f *fussy) says(who, answer string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.who = map[string]string{who: answer}
}

func (f *fussy) answer(rcpt string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for who, answer := range f.who {
		if strings.Contains(rcpt, who) {
			return answer
		}
	}
	return ""
}

func TestOneRefusedRecipientDoesNotKeepTheMailFromOthers(t *testing.T) {
	f, rec := &fussy{}, &recorder{}
	s := newMailServer(t, false, func(s *mailServer) { s.picky = f.answer })
	n := newNotify(t, notify.Deps{Record: rec.record})
	r := mailReceiver(t, s, nil)
	f.says("oncall@", "550 no such person as s3cret-word")
	_, built, err := n.Build(r)
	require.NoError(t, err)
	_, err = built[0].Notify(pipeline(t.Context(), "g"), anAlert(time.Now()))
	require.NoError(t, err, "the others have it")
	got := s.letters()
	require.Len(t, got, 1)
	require.Len(t, got[0].to, 1)
	require.Contains(t, got[0].to[0], "second@example.com")
	require.True(t, rec.got[0].OK)
	require.Contains(t, rec.got[0].Refused, "recipient oncall@example.com: 550")
	require.Contains(t, rec.got[0].Refused, "no such person as <redacted>")
	require.Equal(t, "delivery.partial", rec.ev[0].Code)
	require.Equal(t, "warning", rec.ev[0].Severity)
	require.Contains(t, rec.ev[0].Message, "oncall@example.com")

	require.ErrorContains(t, n.Test(t.Context(), r), "oncall@example.com: 550", "whoever tests wants to know")
	require.Len(t, s.letters(), 2)

	f.says("@", "550 nobody here")
	retry, err := built[0].Notify(pipeline(t.Context(), "g"), anAlert(time.Now().Add(time.Second)))
	require.False(t, retry)
	require.ErrorContains(t, err, "oncall@example.com")
	require.ErrorContains(t, err, "second@example.com")
	require.Len(t, s.letters(), 2)
}

func TestWhoIsRefusedForNowIsTriedAgainAlone(t *testing.T) {
	f, rec := &fussy{}, &recorder{}
	s := newMailServer(t, false, func(s *mailServer) { s.picky = f.answer })
	n := newNotify(t, notify.Deps{Record: rec.record})
	_, built, err := n.Build(mailReceiver(t, s, nil))
	require.NoError(t, err)
	starts := time.Now()
	try := func() (bool, error) { return built[0].Notify(pipeline(t.Context(), "g"), anAlert(starts)) }

	f.says("@", "451 later")
	retry, err := try()
	require.True(t, retry)
	require.ErrorContains(t, err, "451")
	require.Empty(t, s.letters())
	f.says("oncall@", "450 greylisted")
	for range 3 {
		retry, err = try()
		require.True(t, retry)
		require.ErrorContains(t, err, "recipient oncall@example.com: 450")
		require.Len(t, s.letters(), 1, "the other one has it once")
	}
	f.says("nobody", "")
	retry, err = try()
	require.False(t, retry)
	require.NoError(t, err)
	got := s.letters()
	require.Len(t, got, 2)
	require.Len(t, got[1].to, 1)
	require.Contains(t, got[1].to[0], "oncall@example.com")

	// The next notification: what was for now is for good.
	starts = starts.Add(time.Minute)
	f.says("oncall@", "450 greylisted")
	retry, _ = try()
	require.True(t, retry)
	f.says("oncall@", "550 no such person")
	retry, err = try()
	require.False(t, retry)
	require.NoError(t, err)
	require.Len(t, s.letters(), 3)
	require.Contains(t, rec.got[len(rec.got)-1].Refused, "550")
}
