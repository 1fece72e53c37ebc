package strictjson

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// walker goes over one document. It is not a parser of everything: numbers
// and the inside of escapes are left to encoding/json, which runs after it.
type walker struct {
	data  []byte
	at    int
	depth int
}

func (w *walker) document(s *shape) *Error {
	if err := w.value(s); err != nil {
		return err
	}
	w.space()
	if w.at != len(w.data) {
		return w.fail("more data after the end of the document")
	}
	return nil
}

func (w *walker) fail(format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf(format, args...) + " (byte " + strconv.Itoa(w.at) + ")"}
}

func (w *walker) space() {
	for w.at < len(w.data) {
		switch w.data[w.at] {
		case ' ', '\t', '\r', '\n':
			w.at++
		default:
			return
		}
	}
}

// peek skips space and gives the next byte, 0 at the end. A zero byte in the
// document is as wrong as its end.
func (w *walker) peek() byte {
	w.space()
	if w.at == len(w.data) {
		return 0
	}
	return w.data[w.at]
}

func (w *walker) value(s *shape) *Error {
	c := w.peek()
	got := kindAny
	switch {
	case c == '"':
		got = kindString
	case c == '{':
		got = kindObject
	case c == '[':
		got = kindList
	case c == 't' || c == 'f':
		got = kindBool
	case c == '-' || '0' <= c && c <= '9':
		got = kindNumber
	case c == 'n' && strings.HasPrefix(string(w.data[w.at:min(w.at+4, len(w.data))]), "null"):
		return w.fail("null is not accepted: leave the field out")
	case w.at == len(w.data):
		return w.fail("the document ends too early")
	default:
		return w.fail("not JSON: unexpected %q", c)
	}
	if s.kind != kindAny && s.kind != got && !(s.kind == kindMap && got == kindObject) {
		return w.fail("want %s, got %s", s.kind, got)
	}
	switch got {
	case kindString:
		_, err := w.text()
		return err
	case kindObject, kindList:
		if w.depth++; w.depth > MaxDepth {
			return w.fail("nested deeper than %d levels", MaxDepth)
		}
		defer func() { w.depth-- }()
		if got == kindObject {
			return w.object(s)
		}
		return w.list(s)
	default: // a word or a number: up to what can follow it
		for w.at < len(w.data) && !ends(w.data[w.at]) {
			w.at++
		}
		return nil
	}
}

func ends(c byte) bool {
	switch c {
	case ',', ']', '}', ' ', '\t', '\r', '\n':
		return true
	}
	return false
}

func (w *walker) list(s *shape) *Error {
	elem := anyShape
	if s.elem != nil {
		elem = s.elem
	}
	w.at++
	if w.peek() == ']' {
		w.at++
		return nil
	}
	for i := 0; ; i++ {
		if err := w.value(elem); err != nil {
			err.Path = "[" + strconv.Itoa(i) + "]" + err.Path
			return err
		}
		switch w.peek() {
		case ',':
			w.at++
		case ']':
			w.at++
			return nil
		default:
			return w.fail("not JSON: want , or ] in a list")
		}
	}
}

func (w *walker) object(s *shape) *Error {
	w.at++
	if w.peek() == '}' {
		w.at++
		return nil
	}
	var seen keys
	for {
		if w.peek() != '"' {
			return w.fail("not JSON: want a key in quotes")
		}
		key, err := w.text()
		if err != nil {
			return err
		}
		elem := anyShape
		if s.kind == kindObject {
			f, ok := s.fields[string(key)]
			if !ok {
				return w.fail("unknown field %q", clip(key))
			}
			elem = f
		} else if s.elem != nil {
			elem = s.elem
		}
		if !seen.add(key) {
			return w.fail("the key %q comes twice", clip(key))
		}
		if w.peek() != ':' {
			return w.fail("not JSON: want : after a key")
		}
		w.at++
		if err := w.value(elem); err != nil {
			err.Path = "." + string(clip(key)) + err.Path
			return err
		}
		switch w.peek() {
		case ',':
			w.at++
		case '}':
			w.at++
			return nil
		default:
			return w.fail("not JSON: want , or } in an object")
		}
	}
}

// clip bounds what an error repeats of a key.
func clip(key []byte) []byte {
	const most = 64
	if len(key) <= most {
		return key
	}
	return append(append([]byte{}, key[:most]...), "..."...)
}

// text reads a string and gives its meaning: a slice of the document if
// nothing in it is escaped.
func (w *walker) text() ([]byte, *Error) {
	start := w.at
	escaped := false
	for w.at++; w.at < len(w.data); w.at++ {
		switch c := w.data[w.at]; {
		case c == '"':
			w.at++
			raw := w.data[start:w.at]
			if !escaped {
				return raw[1 : len(raw)-1], nil
			}
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				return nil, w.fail("not JSON: a bad escape in a string")
			}
			return []byte(s), nil
		case c < 0x20:
			return nil, w.fail("not JSON: a control character in a string must be escaped")
		case c == '\\':
			escaped = true
			if err := w.escape(); err != nil {
				return nil, err
			}
		}
	}
	return nil, w.fail("the document ends within a string")
}

// escape stands on a backslash and goes to the escape's last byte. It refuses
// halves of surrogate pairs, which encoding/json would replace.
func (w *walker) escape() *Error {
	w.at++
	if w.at >= len(w.data) || w.data[w.at] != 'u' {
		return nil // one letter; encoding/json knows which
	}
	r, ok := w.hex()
	switch {
	case !ok:
		return w.fail(`not JSON: \u wants four hexadecimal digits`)
	case r >= 0xDC00 && r <= 0xDFFF:
		return w.fail("half of a surrogate pair in a string")
	case r < 0xD800 || r > 0xDBFF:
		return nil
	}
	if w.at+2 < len(w.data) && w.data[w.at+1] == '\\' && w.data[w.at+2] == 'u' {
		w.at += 2
		if low, ok := w.hex(); ok && low >= 0xDC00 && low <= 0xDFFF {
			return nil
		}
	}
	return w.fail("half of a surrogate pair in a string")
}

// hex stands on the u of an escape and goes to its last digit.
func (w *walker) hex() (uint64, bool) {
	if w.at+5 > len(w.data) {
		return 0, false
	}
	r, err := strconv.ParseUint(string(w.data[w.at+1:w.at+5]), 16, 32)
	w.at += 4
	return r, err == nil
}

// keys is the set of one object's keys. Most objects have few: they are
// compared one by one, and only many make a map.
type keys struct {
	few  [12][]byte
	n    int
	many map[string]struct{}
}

// add reports whether the key is new.
func (k *keys) add(key []byte) bool {
	if k.many != nil {
		if _, ok := k.many[string(key)]; ok {
			return false
		}
		k.many[string(key)] = struct{}{}
		return true
	}
	for _, have := range k.few[:k.n] {
		if string(have) == string(key) {
			return false
		}
	}
	if k.n < len(k.few) {
		k.few[k.n] = key
		k.n++
		return true
	}
	k.many = make(map[string]struct{}, 2*len(k.few))
	for _, have := range k.few {
		k.many[string(have)] = struct{}{}
	}
	k.many[string(key)] = struct{}{}
	return true
}
