package uplink

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	pm "github.com/prometheus/common/model"

	"panoptes/internal/model"
)

// Bounds of jobs that agents scrape.
const (
	MaxScrapeJobs     = 50
	MaxScrapeTargets  = 100 // of all jobs of an agent
	MaxScrapeInterval = time.Hour
	MinScrapeInterval = time.Second
)

// ScrapeJob is a job that an agent scrapes: targets near its host that speak
// Prometheus' text format. Settings.Scrapes holds a list of them.
type ScrapeJob struct {
	Job     string            `json:"job"`
	Targets []string          `json:"targets,omitempty"` // host:port
	URL     string            `json:"url,omitempty"`     // in place of targets, scheme and path
	Labels  map[string]string `json:"labels,omitempty"`  // of all series of the job

	Interval model.Duration      `json:"interval,omitempty"` // default 15s
	Timeout  model.Duration      `json:"timeout,omitempty"`  // default 10s, the interval at most
	Scheme   string              `json:"scheme,omitempty"`   // http or https
	Path     string              `json:"path,omitempty"`     // default /metrics
	Params   map[string][]string `json:"params,omitempty"`

	Bearer       model.Secret `json:"bearer,omitempty"`
	Username     string       `json:"username,omitempty"`
	Password     model.Secret `json:"password,omitempty"`
	BearerFile   string       `json:"bearer_file,omitempty"`   // these three are for the agent's own file alone
	PasswordFile string       `json:"password_file,omitempty"` //
	CAFile       string       `json:"ca_file,omitempty"`       // certificates in PEM that are trusted
	Insecure     bool         `json:"insecure,omitempty"`      // certificates are not checked

	HonorLabels     bool `json:"honor_labels,omitempty"`     // the target's own labels win
	HonorTimestamps bool `json:"honor_timestamps,omitempty"` // the target's own times are kept
	MaxSamples      int  `json:"max_samples,omitempty"`      // of one answer; default 5,000
}

// Validate names what is wrong, whoever wrote the job.
func (j *ScrapeJob) Validate() error {
	var inv model.Invalid
	if j.Job == "" || len(j.Job) > 200 || !utf8.ValidString(j.Job) {
		inv.Add("job", "must be a name of 1 to 200 bytes")
	}
	switch {
	case j.URL != "" && (len(j.Targets) > 0 || j.Scheme != "" || j.Path != ""):
		inv.Add("url", "stands in place of targets, scheme and path; leave those out")
	case j.URL != "":
		if u, err := url.Parse(j.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || len(j.URL) > 2048 {
			inv.Add("url", "must be a URL such as http://localhost:9100/metrics, without a password")
		}
	case len(j.Targets) == 0:
		inv.Add("targets", "must name one address at least, host:port")
	}
	if len(j.Targets) > MaxScrapeTargets {
		inv.Add("targets", "has %d entries; %d are allowed", len(j.Targets), MaxScrapeTargets)
	}
	for i, t := range j.Targets {
		host, port, err := net.SplitHostPort(t)
		if n, perr := strconv.Atoi(port); err != nil || perr != nil || n < 1 || n > 65535 || host == "" || len(t) > 260 || strings.ContainsAny(t, "/@ \t\r\n\\?#%") {
			inv.Add(model.Index("targets", i), "must be host:port; the path belongs into path")
		}
	}
	if d := j.Interval.D(); d != 0 && (d < MinScrapeInterval || d > MaxScrapeInterval) {
		inv.Add("interval", "must lie between %s and %s", model.Duration(MinScrapeInterval), model.Duration(MaxScrapeInterval))
	}
	if j.Timeout < 0 || j.Timeout.D() > time.Minute {
		inv.Add("timeout", "must lie between 0 and 1m")
	}
	if j.Scheme != "" && j.Scheme != "http" && j.Scheme != "https" {
		inv.Add("scheme", "must be http or https")
	}
	if j.Path != "" && (j.Path[0] != '/' || len(j.Path) > 1024 || strings.ContainsAny(j.Path, " \r\n?#")) {
		inv.Add("path", "must begin with / and have no blanks; what follows ? belongs into params")
	}
	if len(j.Params) > 32 {
		inv.Add("params", "has %d entries; 32 are allowed", len(j.Params))
	}
	if len(j.Labels) > model.MaxCheckLabels {
		inv.Add("labels", "has %d entries; %d are allowed", len(j.Labels), model.MaxCheckLabels)
	}
	for _, k := range slices.Sorted(maps.Keys(j.Labels)) {
		v := j.Labels[k]
		if !pm.LegacyValidation.IsValidLabelName(k) || strings.HasPrefix(k, "__") || len(k) > 200 || v == "" || len(v) > 2048 || !utf8.ValidString(v) {
			inv.Add("labels."+k, "must be a label's name and a value in UTF-8, up to 200 and 2048 bytes")
		}
		if k == "host" || k == "instance" || k == model.LabelRegion {
			inv.Add("labels."+k, "is set by the system; choose another name")
		}
	}
	if (j.Bearer != "" || j.BearerFile != "") && (j.Username != "" || j.Password != "" || j.PasswordFile != "") {
		inv.Add("bearer", "and username cannot be used together")
	}
	if strings.ContainsAny(j.Bearer.Reveal()+j.Username+j.Password.Reveal(), "\r\n\x00") {
		inv.Add("bearer", "or username or password holds a line break")
	}
	if j.MaxSamples < 0 || j.MaxSamples > 20_000 {
		inv.Add("max_samples", "must lie between 1 and 20000; leave it out for 5000")
	}
	return inv.Err()
}

// ValidateScrapes is what an agent takes of the servers: files of the host are
// not theirs to name.
func ValidateScrapes(jobs []ScrapeJob) error {
	var inv model.Invalid
	if len(jobs) > MaxScrapeJobs {
		return fmt.Errorf("%w: %d jobs to scrape, %d are allowed", model.ErrTooLarge, len(jobs), MaxScrapeJobs)
	}
	for i := range jobs {
		inv.AddErr(model.Index("scrapes", i), jobs[i].Validate())
		if jobs[i].BearerFile+jobs[i].PasswordFile+jobs[i].CAFile != "" {
			inv.Add(model.Index("scrapes", i), "names a file of the host, which only the host's own file may")
		}
	}
	return inv.Err()
}
