package api

import (
	"strings"
	"unicode/utf8"
)

// searchable is what q looks at: lower-case texts by field.
type searchable map[string]string

// query is what q asks for: all terms must hold.
type query []term

// term is one word of q: `shop`, `-test`, `type:http`, `"two words"`.
type term struct {
	not   bool
	field string // empty for any
	word  string // lower case
}

const (
	maxQuery = 1000
	maxTerms = 32
)

// parseQuery reads q. Words are separated by spaces unless quoted; - negates;
// field:word looks at one field.
func parseQuery(s string) (query, error) {
	if len(s) > maxQuery || !utf8.ValidString(s) {
		return nil, invalid("q", "must be text of up to %d bytes", maxQuery)
	}
	var q query
	for rest := strings.TrimSpace(s); rest != ""; rest = strings.TrimSpace(rest) {
		var t term
		if len(rest) > 1 && rest[0] == '-' && rest[1] != ' ' {
			t.not, rest = true, rest[1:]
		}
		if i := strings.IndexAny(rest, ": \t\n\""); i > 0 && rest[i] == ':' {
			t.field, rest = strings.ToLower(rest[:i]), rest[i+1:]
		}
		if strings.HasPrefix(rest, `"`) {
			word, after, closed := strings.Cut(rest[1:], `"`)
			if !closed {
				return nil, invalid("q", "a quotation mark is not closed")
			}
			t.word, rest = word, after
		} else {
			i := strings.IndexAny(rest, " \t\n\r")
			if i < 0 {
				i = len(rest)
			}
			t.word, rest = rest[:i], rest[i:]
		}
		t.word = strings.ToLower(t.word)
		if t.word == "" && t.field == "" {
			continue
		}
		if len(q) == maxTerms {
			return nil, invalid("q", "has more than %d words", maxTerms)
		}
		q = append(q, t)
	}
	return q, nil
}

// matches reports whether all terms hold.
func (q query) matches(s searchable) bool {
	for _, t := range q {
		if t.holds(s) == t.not {
			return false
		}
	}
	return true
}

func (t term) holds(s searchable) bool {
	if t.field != "" {
		v, ok := s[t.field]
		// What looks like a field may be part of a word: http://host, a:b.
		if ok {
			return strings.Contains(v, t.word)
		}
		return containsAny(s, t.field+":"+t.word)
	}
	return containsAny(s, t.word)
}

// anywhere is the key under which a searchable may hold all its texts joined,
// so that a word is looked for once.
const anywhere = "\x00"

func containsAny(s searchable, word string) bool {
	if all, ok := s[anywhere]; ok {
		return strings.Contains(all, word)
	}
	for _, v := range s {
		if strings.Contains(v, word) {
			return true
		}
	}
	return false
}
