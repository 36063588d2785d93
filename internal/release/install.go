package release

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"text/template"

	"panoptes/internal/model"
	"panoptes/internal/wire/manifest"
)

//go:embed texts
var texts embed.FS

// Where says how strangers reach the servers, and what they join with.
type Where struct {
	URL    string // of the HTTP port: http://10.0.0.1:9700
	Join   string // host:9701
	Token  string // empty: TOKEN stands in its place
	Region string // empty: the host's own file says it
	Checks bool   // the agent offers to run checks
}

// Install are the lines that install an agent.
type Install struct {
	Linux      string `json:"linux"`      // for a POSIX shell
	OpenRC     string `json:"openrc"`     // the same; the script finds out which init runs
	Docker     string `json:"docker"`     // builds an image and runs it
	Kubernetes string `json:"kubernetes"` // YAML of a DaemonSet
	Windows    string `json:"windows"`    // PowerShell
	// Warning says what keeps these lines from working elsewhere.
	Warning   string   `json:"warning,omitempty"`
	Platforms []string `json:"platforms"` // that this server has programs for
}

var (
	tokenForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,512}$`)
	hostForm  = regexp.MustCompile(`^[A-Za-z0-9.:_\[\]-]{1,300}$`)
	pathForm  = regexp.MustCompile(`^[A-Za-z0-9./_-]*$`)
)

// Validate keeps everything out that a shell, YAML or PowerShell would read as more
// than a word.
func (w *Where) Validate() error {
	var inv model.Invalid
	u, err := url.Parse(w.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !hostForm.MatchString(u.Host) || !pathForm.MatchString(u.Path) || u.RawQuery != "" || u.User != nil {
		inv.Add("external_url", "%.100q is not a plain URL like https://panoptes.example", w.URL)
	}
	if _, _, err := net.SplitHostPort(w.Join); err != nil || !hostForm.MatchString(w.Join) {
		inv.Add("advertise", "%.100q is not host:port", w.Join)
	}
	if w.Token != "" && !tokenForm.MatchString(w.Token) {
		inv.Add("token", "is not a token; 'panoptes token create --role agent' makes one")
	}
	if w.Region != "" && model.CheckName(w.Region) != nil {
		inv.Add("region", "must be the name of a region")
	}
	return inv.Err()
}

// data is what the texts are made of.
type data struct {
	Where
	Version         string
	Files           []file
	Windows         string // hash
	Systemd, OpenRC string
}

type file struct{ manifest.File }

// DockerArch is the architecture as Docker calls it.
func (f file) DockerArch() string { return f.Arch }

// Machine is the architecture as uname -m calls it.
func (f file) Machine() string {
	switch f.Arch {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return f.Arch + "*"
}

func newData(w Where, version string, files []manifest.File) (data, error) {
	d := data{Where: w, Version: version, Windows: "NO-AGENT-FOR-WINDOWS-HERE"}
	d.URL = strings.TrimRight(d.URL, "/")
	if d.Token == "" {
		d.Token = "TOKEN"
	}
	for _, f := range files {
		d.Files = append(d.Files, file{f})
		if f.OS == "windows" {
			d.Windows = strings.ToUpper(f.SHA256)
		}
	}
	for name, into := range map[string]*string{"panoptes-agent.service": &d.Systemd, "panoptes-agent.openrc": &d.OpenRC} {
		b, err := texts.ReadFile("texts/" + name)
		if err != nil {
			return d, fmt.Errorf("read the text %s: %w", name, err)
		}
		*into = string(b)
	}
	return d, nil
}

// render writes one of the texts.
func render(name string, d data) (string, error) {
	t, err := template.New(name).Funcs(template.FuncMap{"word": word}).ParseFS(texts, "texts/"+name)
	if err != nil {
		return "", fmt.Errorf("read the text %s: %w", name, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, d); err != nil {
		return "", fmt.Errorf("write the text %s: %w", name, err)
	}
	return b.String(), nil
}

var versionText = regexp.MustCompile(`[^A-Za-z0-9._+-]`)

// Script is install.sh with the hashes of the programs that are here. It is the
// same wherever it is asked for.
func (r *Release) Script() ([]byte, error) {
	d, err := newData(Where{}, versionText.ReplaceAllString(r.cfg.Version, ""), r.Files())
	if err != nil {
		return nil, err
	}
	s, err := render("install.sh", d)
	return []byte(s), err
}

// Install writes the lines for one way to reach the servers. Over plain HTTP
// the line of Linux names the hash of the script, and the script those of the
// programs: who holds the line needs to trust nobody on the way.
func (r *Release) Install(w Where) (Install, error) {
	if err := w.Validate(); err != nil {
		return Install{}, err
	}
	d, err := newData(w, versionText.ReplaceAllString(r.cfg.Version, ""), r.Files())
	if err != nil {
		return Install{}, err
	}
	script, err := r.Script()
	if err != nil {
		return Install{}, err
	}
	out := Install{Linux: line(d, script), Platforms: []string{}}
	out.OpenRC = out.Linux
	for _, f := range d.Files {
		out.Platforms = append(out.Platforms, f.Platform.String())
	}
	image, err := render("Dockerfile", d)
	if err != nil {
		return out, err
	}
	start, err := render("docker-run.txt", d)
	if err != nil {
		return out, err
	}
	out.Docker = "docker build -t panoptes-agent - <<'END'\n" + image + "END\n" + start
	if out.Kubernetes, err = render("kubernetes.yaml", d); err != nil {
		return out, err
	}
	if out.Windows, err = render("windows.ps1", d); err != nil {
		return out, err
	}
	out.Warning = warning(d)
	return out, nil
}

// line installs an agent on Linux.
func line(d data, script []byte) string {
	args := fmt.Sprintf("--server %s --join %s --token %s", word(d.URL), word(d.Join), d.Token)
	if d.Region != "" {
		args += " --region " + word(d.Region)
	}
	if d.Checks {
		args += " --checks"
	}
	from := word(d.URL + "/install.sh")
	get := fmt.Sprintf("{ curl -fsSL %s || wget -qO- %s; }", from, from)
	if strings.HasPrefix(d.URL, "https://") {
		return fmt.Sprintf("%s | sh -s -- %s", get, args)
	}
	sum := sha256.Sum256(script)
	return fmt.Sprintf(`f=$(mktemp) && %s >"$f" && echo "%s  $f" | sha256sum -c - && sh "$f" %s`, get, hex.EncodeToString(sum[:]), args)
}

var plainForm = regexp.MustCompile(`^[A-Za-z0-9._:/@+-]+$`)

// word quotes what a shell would take for more than a word: names of regions may
// have spaces and parentheses, and nothing here has a quotation mark.
func word(s string) string {
	if plainForm.MatchString(s) {
		return s
	}
	return "'" + s + "'"
}

// warning says plainly what keeps others from using the lines.
func warning(d data) string {
	var out []string
	u, err := url.Parse(d.URL)
	join, _, jerr := net.SplitHostPort(d.Join)
	if err != nil || jerr != nil {
		return ""
	}
	switch web, own := loopback(u.Hostname()), loopback(join); {
	case web && own:
		out = append(out, "this server listens on loopback only: no other machine can reach it. Start it with --bind ADDRESS (and --advertise HOST when others reach it by another name).")
	case web:
		out = append(out, fmt.Sprintf("%s can only be reached from this machine: set listen, or external_url to the address of the proxy in front of it.", d.URL))
	case own:
		out = append(out, fmt.Sprintf("agents cannot reach %s from elsewhere: start the server with --bind ADDRESS, or say how others reach it with --advertise HOST.", d.Join))
	}
	if len(d.Files) == 0 {
		out = append(out, "this server has no programs of agents to offer: build them with 'make agents' and name their directory with agents.dir.")
	}
	return strings.Join(out, " ")
}

func loopback(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback() || ip.IsUnspecified()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
