package uplink

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"panoptes/internal/model"
)

// KindAction is 'E'. Server: ActionRequest; agent: Answer with an ActionResult.
const KindAction Kind = 'E'

// ActionRestart is the one thing that an agent does on request.
const ActionRestart = "restart"

// ActionLife is how long a request is good for.
const ActionLife = 30 * time.Second

// Action is what an agent is asked to do. It names what is to be done and to
// what; there is no command in it.
type Action struct {
	Nonce   string `json:"nonce"`   // made anew for each request
	Node    string `json:"node"`    // the host that is to do it
	Action  string `json:"action"`  // ActionRestart
	Kind    string `json:"kind"`    // of the service
	Name    string `json:"name"`    //
	Actor   string `json:"actor"`   // who wants it
	Issued  int64  `json:"issued"`  // ms
	Expires int64  `json:"expires"` // ms
}

// ActionRequest is a signed action.
type ActionRequest struct {
	Request
	Action Action `json:"action"`
	Key    []byte `json:"key"`       // ed25519, public: which key has signed
	Sig    []byte `json:"signature"` // of Action.Text
}

// Text is what is signed: a line for each field, so that no two actions have
// the same text.
func (a *Action) Text() []byte {
	var b strings.Builder
	b.WriteString("panoptes action 1\n")
	for _, s := range []string{a.Nonce, a.Node, a.Action, a.Kind, a.Name, a.Actor, strconv.FormatInt(a.Issued, 10), strconv.FormatInt(a.Expires, 10)} {
		b.WriteString(strconv.Quote(s))
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

// Sign signs an action.
func (a Action) Sign(key ed25519.PrivateKey) (ActionRequest, error) {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return ActionRequest{}, fmt.Errorf("%w: the key of actions is not of ed25519", model.ErrUnavailable)
	}
	return ActionRequest{Action: a, Key: pub, Sig: ed25519.Sign(key, a.Text())}, nil
}

// Verify reports whether the key that is named has signed the action. Whether
// that key is trusted is the host's to say.
func (r *ActionRequest) Verify() bool {
	return len(r.Key) == ed25519.PublicKeySize && len(r.Sig) == ed25519.SignatureSize && ed25519.Verify(r.Key, r.Action.Text(), r.Sig)
}

// KeyText writes a public key as it stands in files.
func KeyText(key []byte) string { return base64.StdEncoding.EncodeToString(key) }

// ParseKey reads what KeyText wrote.
func ParseKey(s string) (ed25519.PublicKey, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%.60q is not a public key of ed25519 in base64", s)
	}
	return b, nil
}

// The ends of an action.
const (
	ActionDone    = "done"
	ActionRefused = "refused"
	ActionFailed  = "failed"
)

// Why an action was refused.
const (
	RefusedOff     = "off"     // the host's file does not allow it
	RefusedLimit   = "limit"   // too often
	RefusedInvalid = "invalid" // signature, host, time, or what was named
)

// ActionResult says what became of an action.
type ActionResult struct {
	Result  string `json:"result"`
	Message string `json:"message"`
	Code    string `json:"code,omitempty"` // why it was refused
}
