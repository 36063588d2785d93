package store

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"panoptes/internal/model"
)

// Lost tells which samples may be missing here because of damage: what was set
// aside, now or by an earlier process, and blocks that are damaged in part.
func (s *Store) Lost() []model.LostSamples {
	var out []model.LostSamples
	seen := make(map[string]bool)
	add := func(r DamageReport) {
		l := model.LostSamples{ID: r.Quarantined, From: r.MinTime, To: r.MaxTime, Found: r.Found.UnixMilli(), Reason: fmt.Sprintf("%s %s is damaged: %s", r.Kind, r.Path, r.Err)}
		switch {
		case r.Kind == DamageChunk:
			l.ID, l.Block = r.Path, r.Path
		case l.ID == "":
			l.ID = fmt.Sprintf("%s-%d", r.Path, l.Found)
		}
		if !seen[l.ID] {
			seen[l.ID] = true
			out = append(out, l)
		}
	}
	names, err := filepath.Glob(filepath.Join(s.cfg.Dir, quarantineName, "*.json"))
	if err != nil {
		s.log.Warn("damage of earlier runs not known", "err", err)
	}
	for _, n := range names {
		var r DamageReport
		b, err := os.ReadFile(n)
		if err == nil {
			err = json.Unmarshal(b, &r)
		}
		if err != nil {
			s.log.Warn("damage report not read", "path", n, "err", err)
			continue
		}
		add(r)
	}
	for _, r := range s.Damage() {
		add(r)
	}
	return out
}
