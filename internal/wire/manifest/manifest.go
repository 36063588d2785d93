// Package manifest is the list of the programs of agents that servers offer:
// for each platform its size and hash, under one version. An operator signs its
// exact bytes with a key that no server has; agents that update themselves
// believe that signature and nothing else.
package manifest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"panoptes/internal/model"
)

// The names of the files in a directory of programs.
const (
	Name      = "manifest.json"
	Signature = "manifest.json.sig"
	Program   = "panoptes-agent" // followed by -OS-ARCH
	Version   = "VERSION"        // of the programs, when there is no manifest
)

// Bounds of what strangers send.
const (
	MaxBytes   = 64 << 10
	MaxProgram = 200 << 20
)

// Platform is an operating system and an architecture, as Go calls them; armv7
// is what Go calls arm with GOARM=7.
type Platform struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
}

func (p Platform) String() string { return p.OS + "/" + p.Arch }

// File is the name of the program for this platform in a directory of programs.
func (p Platform) File() string { return Program + "-" + p.OS + "-" + p.Arch }

// Platforms are all that there may be programs for.
func Platforms() []Platform {
	return []Platform{
		{"linux", "amd64"}, {"linux", "arm64"}, {"linux", "armv7"},
		{"darwin", "amd64"}, {"darwin", "arm64"}, {"windows", "amd64"}, {"freebsd", "amd64"},
	}
}

// PlatformOf returns the platform of a program by what Go says of it.
func PlatformOf(goos, goarch string) Platform {
	if goarch == "arm" {
		goarch = "armv7"
	}
	return Platform{goos, goarch}
}

// Known reports whether p is one of Platforms.
func Known(p Platform) bool { return slices.Contains(Platforms(), p) }

// File is the program for one platform.
type File struct {
	Platform
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // hex
}

// Manifest is what is offered.
type Manifest struct {
	Version string    `json:"version"`
	Made    time.Time `json:"made,omitzero"`
	Files   []File    `json:"files"`
	// DowngradeFrom lists newer versions whose agents may go back to this one.
	// Nothing else makes an agent take an older program.
	DowngradeFrom []string `json:"downgrade_from,omitempty"`
}

// File returns the program for a platform.
func (m *Manifest) File(p Platform) (File, bool) {
	i := slices.IndexFunc(m.Files, func(f File) bool { return f.Platform == p })
	if i < 0 {
		return File{}, false
	}
	return m.Files[i], true
}

// Parse reads and checks a manifest. Fields that are not known are ignored: it
// may be newer.
func Parse(b []byte) (m Manifest, err error) {
	if len(b) > MaxBytes {
		return m, fmt.Errorf("a manifest of %d bytes, %d are allowed: %w", len(b), MaxBytes, model.ErrTooLarge)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&m); err != nil {
		return m, fmt.Errorf("read the manifest: %w", model.DecodeError(err))
	}
	if dec.More() {
		return m, model.Invalid{{Msg: "the manifest is followed by something else"}}
	}
	return m, m.Validate()
}

// Validate names all faults.
func (m *Manifest) Validate() error {
	var inv model.Invalid
	if _, err := ParseVersion(m.Version); err != nil {
		inv.AddErr("version", err)
	}
	if len(m.Files) == 0 {
		inv.Add("files", "must name at least one program")
	}
	for i, f := range m.Files {
		at := model.Index("files", i)
		if !Known(f.Platform) {
			inv.Add(at, "%.40q is not a platform that agents are built for", f.Platform)
		}
		if j := slices.IndexFunc(m.Files, func(o File) bool { return o.Platform == f.Platform }); j != i {
			inv.Add(at, "%s is there twice", f.Platform)
		}
		if f.Size <= 0 || f.Size > MaxProgram {
			inv.Add(at+".size", "must lie between 1 and %d", MaxProgram)
		}
		if sum, err := hex.DecodeString(f.SHA256); err != nil || len(sum) != 32 || f.SHA256 != strings.ToLower(f.SHA256) {
			inv.Add(at+".sha256", "must be a SHA-256 in lower case hex")
		}
		if len(inv) > 20 {
			break
		}
	}
	if len(m.DowngradeFrom) > 100 {
		inv.Add("downgrade_from", "must be 100 at most")
	}
	return inv.Err()
}

// ErrSignature says that a manifest was not signed by the key that is trusted.
var ErrSignature = errors.New("the manifest is not signed by the key that this host trusts")

// context keeps a signature over something else from being one of a manifest.
const context = "panoptes agent manifest 1\x00"

// Sign signs the exact bytes of a manifest and returns the text of its signature.
func Sign(key ed25519.PrivateKey, manifest []byte) []byte {
	sig := ed25519.Sign(key, append([]byte(context), manifest...))
	return []byte(base64.StdEncoding.EncodeToString(sig) + "\n")
}

// Verify checks the signature before anything of the manifest is read.
func Verify(key ed25519.PublicKey, manifest, signature []byte) (Manifest, error) {
	if len(manifest) > MaxBytes || len(signature) > 1024 {
		return Manifest{}, fmt.Errorf("manifest or signature: %w", model.ErrTooLarge)
	}
	sig, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(signature)))
	if err != nil || len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, append([]byte(context), manifest...), sig) {
		return Manifest{}, ErrSignature
	}
	return Parse(manifest)
}

// NewKey makes a key pair; both halves are text for a file.
func NewKey() (public, private string, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("make a key: %w", err)
	}
	return base64.StdEncoding.EncodeToString(pub), base64.StdEncoding.EncodeToString(priv.Seed()), nil
}

// PublicKey reads the text of a public key.
func PublicKey(s string) (ed25519.PublicKey, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, model.Invalid{{Field: "key", Msg: "is not an ed25519 public key in base64; 'panoptes agent keygen' makes one"}}
	}
	return b, nil
}

// PrivateKey reads the text of a private key.
func PrivateKey(s string) (ed25519.PrivateKey, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
	if err != nil || len(b) != ed25519.SeedSize {
		return nil, model.Invalid{{Field: "key", Msg: "is not an ed25519 private key as 'panoptes agent keygen' writes it"}}
	}
	return ed25519.NewKeyFromSeed(b), nil
}
