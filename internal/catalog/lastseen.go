package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"panoptes/internal/model"
)

// How long changes settle before the last seen copy is written, and how old
// it may get while changes keep coming.
const (
	settle    = 300 * time.Millisecond
	maxUnseen = 5 * time.Second
)

// The file is one JSON object; the sum is over the bytes of the body, so that
// a torn file is told from a whole one.
type lastSeenFile struct {
	SHA256 string          `json:"sha256"`
	Body   json.RawMessage `json:"body"`
}

type lastSeenBody struct {
	Version  int              `json:"version"`
	Revision int64            `json:"revision"`
	Records  []lastSeenRecord `json:"records"`
}

type lastSeenRecord struct {
	Key      string          `json:"key"`
	Revision int64           `json:"revision"`
	Value    json.RawMessage `json:"value"` // as it lies in the store, secrets sealed
}

// loadLastSeen starts with the records that were seen last, for a server that
// comes up without the store. A file that cannot be used is ignored.
func (c *Catalog) loadLastSeen() {
	body, err := readLastSeen(c.cfg.LastSeenPath)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		c.log.Warn("last seen configuration ignored", "file", c.cfg.LastSeenPath, "err", err)
		return
	}
	var put []*entry
	var changes []Change
	for _, r := range body.Records {
		e, err := c.decode(model.KV{Key: r.Key, Value: r.Value, Revision: r.Revision})
		if err != nil {
			c.log.Warn("last seen record ignored", "key", r.Key, "err", err)
			continue
		}
		put = append(put, e)
		changes = append(changes, Change{Kind: e.rec.Kind, ID: e.rec.ID, Name: e.rec.Name, Op: OpCreate, New: &e.rec})
	}
	// The revision stays 0: no write of this process may count as seen yet.
	c.cache.update(put, nil, 0)
	c.subs.publish(changes)
	c.log.Info("last seen configuration read", "records", len(put), "revision", body.Revision)
	c.readyOnce.Do(func() { close(c.ready) })
}

// setLastSeenAside keeps the last seen copy when the store turns out to be
// empty: somebody has moved the store away, and the copy may be all that is left.
func (c *Catalog) setLastSeenAside(records int) {
	aside := c.cfg.LastSeenPath + ".before-" + time.Now().UTC().Format("20060102T150405.000")
	if err := os.Link(c.cfg.LastSeenPath, aside); err != nil {
		c.log.Error("the configuration store is empty, and the last seen records could not be set aside", "records", records, "err", err)
		return
	}
	c.log.Error("the configuration store is empty; the records seen last are set aside, their secrets sealed with the key of this directory", "records", records, "aside", aside)
}

func readLastSeen(path string) (*lastSeenBody, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var f lastSeenFile
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("not whole: %w", err)
	}
	sum := sha256.Sum256(f.Body)
	if hex.EncodeToString(sum[:]) != f.SHA256 {
		return nil, errors.New("not whole: the checksum differs")
	}
	var body lastSeenBody
	if err := json.Unmarshal(f.Body, &body); err != nil {
		return nil, err
	}
	if body.Version != 1 {
		return nil, fmt.Errorf("version %d is not known; it was written by a newer program", body.Version)
	}
	return &body, nil
}

// keepLastSeen writes the copy some time after changes, until ctx ends.
func (c *Catalog) keepLastSeen(ctx context.Context) {
	for {
		select {
		case <-c.dirty:
		case <-ctx.Done():
			return
		}
		quiet, late := time.NewTimer(settle), time.NewTimer(maxUnseen)
	wait:
		for {
			select {
			case <-c.dirty:
				quiet.Reset(settle)
			case <-quiet.C:
				break wait
			case <-late.C:
				break wait
			case <-ctx.Done():
				break wait
			}
		}
		quiet.Stop()
		late.Stop()
		c.writeLastSeen()
	}
}

func (c *Catalog) writeLastSeen() {
	entries, rev := c.cache.all()
	body := lastSeenBody{Version: 1, Revision: rev, Records: make([]lastSeenRecord, len(entries))}
	for i, e := range entries {
		body.Records[i] = lastSeenRecord{Key: recordKey(e.rec.Kind, e.rec.ID), Revision: e.rec.Revision, Value: e.stored}
	}
	raw := encodeTree(body)
	sum := sha256.Sum256(raw)
	out := fmt.Appendf(nil, `{"sha256":"%s","body":%s}`, hex.EncodeToString(sum[:]), raw)
	if err := writeFile(c.cfg.LastSeenPath, out); err != nil {
		c.met.lastSeen.WithLabelValues("error").Inc()
		c.log.Warn("last seen configuration not written", "file", c.cfg.LastSeenPath, "err", err)
		return
	}
	c.met.lastSeen.WithLabelValues("ok").Inc()
}
