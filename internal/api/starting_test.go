package api_test

import (
	"fmt"
	"testing"

	"panoptes/internal/api"
	"panoptes/internal/model"
)

// While the records are being read nobody is told that his key is wrong.
func TestKeysAreNotRefusedWhileStarting(t *testing.T) {
	starting := true
	b := setUp(t, func(_ *api.Config, d *api.Deps) {
		d.Ready = func() error {
			if starting {
				return fmt.Errorf("%w: the configuration is being read", model.ErrUnavailable)
			}
			return nil
		}
	})
	b.want(503, nil, b.call("unknown", "POST", "/api/v1/write", nil))
	b.want(503, nil, b.call("unknown", "GET", "/v1/checks", nil))
	starting = false
	b.want(401, nil, b.call("unknown", "GET", "/v1/checks", nil))
}
