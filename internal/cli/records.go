package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"
)

// resources maps what people write to the path of the API and the kind of record.
var resources = []struct{ plural, singular string }{
	{"checks", "check"}, {"receivers", "receiver"}, {"routes", "route"}, {"inhibitions", "inhibition"}, {"intervals", "interval"},
	{"maintenances", "maintenance"}, {"regions", "region"}, {"hostgroups", "hostgroup"}, {"users", "user"}, {"keys", "key"}, {"settings", "setting"},
}

func resource(name string) (plural, singular string, err error) {
	var known []string
	for _, r := range resources {
		if name == r.plural || name == r.singular {
			return r.plural, r.singular, nil
		}
		known = append(known, r.plural)
	}
	return "", "", &exitError{exitUsage, fmt.Errorf("there is no resource %q; known: %s", name, strings.Join(known, ", "))}
}

func getCmd(c *client) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "get RESOURCE [NAME]", Args: cobra.RangeArgs(1, 2),
		Short:   "List the records of a resource, or show one",
		Example: "  panoptes get receivers\n  panoptes get route default -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			plural, singular, err := resource(args[0])
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if len(args) == 2 {
				var m map[string]any
				if _, err := c.do(cmd.Context(), request{path: "/v1/" + plural + "/" + url.PathEscape(args[1])}, &m); err != nil {
					return err
				}
				if out.json() {
					return out.printJSON(w, m)
				}
				return yaml.NewEncoder(w).Encode(m)
			}
			items, err := c.list(cmd.Context(), "/v1/"+plural, nil)
			if err != nil {
				return err
			}
			if out.json() {
				return out.printJSON(w, items)
			}
			rows := make([][]string, 0, len(items))
			for _, m := range items {
				rows = append(rows, []string{text(m, "name"), first(text(m, "type"), text(m, "role"), text(m, "receiver"), "-"), text(m, "revision"), ago(text(m, "updated_at")), text(m, "id")})
			}
			return table(w, "no "+plural+"; "+singular+" records come by `panoptes apply`, the API or the pages", []string{"NAME", "TYPE", "REVISION", "CHANGED", "ID"}, rows)
		},
	}
	out.flag(cmd)
	return cmd
}

func deleteCmd(c *client) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete RESOURCE NAME…", Args: cobra.MinimumNArgs(2),
		Short:   "Delete records",
		Example: "  panoptes delete receiver old-hook --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			plural, singular, err := resource(args[0])
			if err != nil {
				return err
			}
			return c.remove(cmd, plural, singular, args[1:], yes)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// document is one YAML document of apply and export.
type document struct {
	Kind string          `json:"kind"`
	Name string          `json:"name"`
	Spec json.RawMessage `json:"spec"`

	source string // file:line, for messages
}

// maxDocuments and maxApply bound one apply, as the server does.
const (
	maxDocuments = 10_000
	maxApply     = 16 << 20
)

// readDocuments reads YAML (or JSON) documents of kind, name and spec.
func readDocuments(name string, r io.Reader) ([]document, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxApply+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxApply {
		return nil, fmt.Errorf("%s is larger than 16 MiB; apply it in parts", name)
	}
	var docs []document
	var errs []error
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var n yaml.Node
		if err := dec.Decode(&n); errors.Is(err, io.EOF) {
			return docs, errors.Join(errs...)
		} else if err != nil {
			return nil, errors.Join(append(errs, fmt.Errorf("%s: %s", name, strings.TrimPrefix(err.Error(), "yaml: ")))...)
		}
		if len(n.Content) == 0 || n.Content[0].Tag == "!!null" {
			continue
		}
		if len(docs) == maxDocuments {
			return nil, fmt.Errorf("%s holds more than %d documents; apply it in parts", name, maxDocuments)
		}
		var d struct {
			Kind string            `yaml:"kind"`
			Name string            `yaml:"name"`
			Spec map[string]asText `yaml:"spec"`
		}
		source := fmt.Sprintf("%s:%d", name, n.Content[0].Line)
		for i := 0; i+1 < len(n.Content[0].Content); i += 2 {
			if key := n.Content[0].Content[i]; !slices.Contains([]string{"kind", "name", "spec"}, key.Value) {
				errs = append(errs, fmt.Errorf("%s:%d: %s: there is no such key; a document has kind, name and spec", name, key.Line, key.Value))
			}
		}
		if err := n.Decode(&d); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s", source, strings.TrimPrefix(err.Error(), "yaml: ")))
			continue
		}
		if d.Kind == "" || d.Name == "" {
			errs = append(errs, fmt.Errorf("%s: needs kind and name, for example \"kind: check\" and \"name: shop\"", source))
			continue
		}
		spec, err := json.Marshal(d.Spec)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: spec: %w", source, err))
			continue
		}
		if d.Spec == nil {
			spec = json.RawMessage("{}")
		}
		docs = append(docs, document{Kind: d.Kind, Name: d.Name, Spec: spec, source: source})
	}
}

// asText is a value of a document whose numbers stay as they are written: the
// label "version: 1.10" must not become 1.1.
type asText struct{ v any }

// UnmarshalYAML implements the interface of package yaml.
func (a *asText) UnmarshalYAML(n *yaml.Node) error {
	switch {
	case n.Kind == yaml.MappingNode:
		var m map[string]asText
		err := n.Decode(&m)
		a.v = m
		return err
	case n.Kind == yaml.SequenceNode:
		var list []asText
		err := n.Decode(&list)
		a.v = list
		return err
	case (n.Tag == "!!float" || n.Tag == "!!int") && json.Valid([]byte(n.Value)):
		a.v = json.Number(n.Value)
		return nil
	}
	return n.Decode(&a.v)
}

// MarshalJSON implements json.Marshaler.
func (a asText) MarshalJSON() ([]byte, error) { return json.Marshal(a.v) }

// readFiles reads documents of files, directories (*.yml, *.yaml) and "-".
func readFiles(stdin io.Reader, paths []string) ([]document, error) {
	var docs []document
	for _, path := range paths {
		if path == "-" {
			d, err := readDocuments("standard input", stdin)
			if err != nil {
				return nil, err
			}
			docs = append(docs, d...)
			continue
		}
		files := []string{path}
		if st, err := os.Stat(path); err != nil {
			return nil, err
		} else if st.IsDir() {
			files = nil
			for _, pattern := range []string{"*.yml", "*.yaml"} {
				found, err := filepath.Glob(filepath.Join(path, pattern))
				if err != nil {
					return nil, err
				}
				files = append(files, found...)
			}
			slices.Sort(files)
			if len(files) == 0 {
				return nil, fmt.Errorf("%s holds no *.yml or *.yaml file", path)
			}
		}
		for _, file := range files {
			f, err := os.Open(file)
			if err != nil {
				return nil, err
			}
			d, err := readDocuments(file, f)
			f.Close()
			if err != nil {
				return nil, err
			}
			docs = append(docs, d...)
		}
	}
	return docs, nil
}

func applyCmd(c *client) *cobra.Command {
	var out output
	var files []string
	var dry bool
	cmd := &cobra.Command{
		Use: "apply -f FILE", Args: cobra.NoArgs,
		Short: "Create and change records from YAML documents",
		Long: `Apply makes the server's records equal to the documents: each has kind, name
and spec. What is equal already is left alone, what is not in the files is not
touched, and when one document is wrong nothing is written.`,
		Example: `  panoptes apply -f checks.yml
  panoptes apply -f monitoring/ --dry-run
  panoptes export | panoptes --server http://other:9700 apply -f -`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(files) == 0 {
				return &exitError{exitUsage, errors.New("give files with -f; - is standard input")}
			}
			docs, err := readFiles(cmd.InOrStdin(), files)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if len(docs) == 0 {
				return &exitError{exitUsage, errors.New("there are no documents in the input")}
			}
			var answer struct {
				Changes []struct {
					Kind string `json:"kind"`
					Name string `json:"name"`
					Op   string `json:"op"`
					Diff string `json:"diff,omitempty"`
				} `json:"changes"`
			}
			path := "/v1/apply"
			if dry {
				path += "?dry_run=true"
			}
			if _, err := c.do(cmd.Context(), request{method: http.MethodPost, path: path, body: map[string]any{"documents": docs}}, &answer); err != nil {
				return locate(err, docs)
			}
			w := cmd.OutOrStdout()
			if out.json() {
				return out.printJSON(w, answer)
			}
			count := map[string]int{}
			for _, ch := range answer.Changes {
				count[ch.Op]++
				if ch.Op == "none" {
					continue
				}
				fmt.Fprintf(w, "%s %s %s\n", ch.Op, ch.Kind, printable(ch.Name))
				if dry && ch.Diff != "" {
					fmt.Fprintln(w, indent(ch.Diff))
				}
			}
			would := ""
			if dry {
				would = "would be "
			}
			_, err = fmt.Fprintf(w, "%d %screated, %d %schanged, %d as they are\n", count["create"], would, count["update"], would, count["none"])
			return err
		},
	}
	cmd.Flags().StringSliceVarP(&files, "file", "f", nil, "file or directory of documents; - is standard input; may be repeated")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "show what would change and write nothing")
	out.flag(cmd)
	return cmd
}

func indent(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i := range lines {
		lines[i] = "    " + printable(lines[i])
	}
	return strings.Join(lines, "\n")
}

// locate names the file and line of the documents that the server refused.
func locate(err error, docs []document) error {
	var e *apiError
	if !errors.As(err, &e) {
		return err
	}
	fix := func(field string) string {
		var i int
		if n, serr := fmt.Sscanf(field, "documents[%d]", &i); serr != nil || n != 1 || i < 0 || i >= len(docs) {
			return field
		}
		_, rest, _ := strings.Cut(field, "]")
		return docs[i].source + ": " + docs[i].Kind + " " + docs[i].Name + rest
	}
	e.Field = fix(e.Field)
	for i := range e.Fields {
		e.Fields[i].Field = fix(e.Fields[i].Field)
	}
	return err
}

func exportCmd(c *client) *cobra.Command {
	var out output
	var kinds []string
	cmd := &cobra.Command{
		Use: "export", Args: cobra.NoArgs,
		Short: "Print the records as documents that apply takes",
		Long:  "Print the records as documents that apply takes. Secrets are shown as <redacted>; applied to the same server that means \"leave as it is\".",
		Example: `  panoptes export > all.yml
  panoptes export --kind check,receiver -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := "/v1/export"
			if len(kinds) > 0 {
				path += "?kind=" + url.QueryEscape(strings.Join(kinds, ","))
			}
			var answer struct {
				Documents []struct {
					Kind string         `json:"kind" yaml:"kind"`
					Name string         `json:"name" yaml:"name"`
					Spec map[string]any `json:"spec" yaml:"spec"`
				} `json:"documents"`
			}
			if _, err := c.do(cmd.Context(), request{path: path}, &answer); err != nil {
				return err
			}
			if out.json() {
				return out.printJSON(cmd.OutOrStdout(), answer)
			}
			enc := yaml.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent(2)
			for _, d := range answer.Documents {
				if err := enc.Encode(d); err != nil {
					return err
				}
			}
			return enc.Close()
		},
	}
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "only these kinds, for example check,receiver")
	out.flag(cmd)
	return cmd
}
