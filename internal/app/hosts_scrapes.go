package app

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"os"

	"panoptes/internal/model"
	"panoptes/internal/scrape"
)

// scrapesOfAgent is what the agent of a host is to scrape.
func (a *App) scrapesOfAgent(nodeID string) []byte {
	n, ok := a.agent(nodeID)
	if !ok {
		return nil
	}
	return scrape.ForAgent(a.catalog.List(model.KindScrape), n)
}

// actionKeyInfo keeps the key of actions apart from what else comes of the
// sealing key.
const actionKeyInfo = "panoptes actions 1"

// actionKey signs what hosts are asked to do. It comes of the key that seals
// secrets, so that all servers have the same one and none has to keep it; hosts
// trust it only where their own file names its public half.
func (a *App) actionKey() (ed25519.PrivateKey, error) {
	seal, err := os.ReadFile(a.cfg.Path("seal.key"))
	if err != nil {
		return nil, fmt.Errorf("read the key that seals: %w", err)
	}
	seed, err := hkdf.Key(sha256.New, seal, nil, actionKeyInfo, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("make the key of actions: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
