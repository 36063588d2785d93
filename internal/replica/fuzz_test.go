package replica

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

func FuzzPieces(f *testing.F) {
	good, err := headPiece(model.Block{ID: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Files: []model.BlockFile{{Name: "index", Size: 1}, {Name: "chunks/000001", Size: 2}}})
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte(`h{"id":"../../../../../etc/passwd","files":[{"name":"../x"}]}`))
	f.Add([]byte(`h{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","files":[{"name":"chunks/../../x"},{"name":"index","size":-1}]}`))
	f.Add(append(dataPiece(nil, 5), 1, 2, 3))
	f.Add([]byte{'d', 1})
	f.Fuzz(func(t *testing.T, m []byte) {
		if b, err := decodeHead(m); err == nil {
			for _, file := range b.Files {
				p := filepath.Join("/base", b.ID, filepath.FromSlash(file.Name))
				require.True(t, strings.HasPrefix(p, "/base/"+b.ID+"/"), p)
				require.GreaterOrEqual(t, file.Size, int64(0))
			}
		}
		if _, data, err := decodeData(m); err == nil {
			require.Len(t, m, len(data)+dataHead)
		}
	})
}
