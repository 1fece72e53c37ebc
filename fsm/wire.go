package fsm

import (
	"fmt"
	"time"
	"unicode/utf8"
)

// CBOR major types (RFC 8949, section 3.1).
const (
	majorUint  = 0
	majorNeg   = 1
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
	majorOther = 7
)

// maxDepth bounds nesting in what is only walked over (specs). Ours is 5.
const maxDepth = 16

// decodeError says what is wrong with encoded input, and where. unknown marks
// input that is well-formed but uses fields that this release does not know:
// skipping them could make replicas differ, so the node must stop instead.
type decodeError struct {
	offset  int
	problem string
	unknown bool
}

func (e *decodeError) Error() string {
	if e.offset == 0 {
		return e.problem
	}
	return fmt.Sprintf("%s at byte %d", e.problem, e.offset)
}

// wire reads the core deterministic encoding of CBOR (RFC 8949, section
// 4.2.1) and nothing else: shortest heads, definite lengths, map keys that are
// unsigned and ascending (so never twice), valid UTF-8. The formats that are
// read a million times a minute go through it, because the reflection of the
// general library costs five times as much; the rest goes through decMode.
//
// The first error sticks: every later read returns zero values, so that
// decoders check once, at the end.
type wire struct {
	b   []byte
	off int
	err error
}

func (w *wire) fail(format string, args ...any) {
	if w.err == nil {
		w.err = &decodeError{offset: w.off, problem: fmt.Sprintf(format, args...)}
	}
}

// head reads a data item's head. The value of a simple or float item is what
// its head holds.
func (w *wire) head() (major byte, value uint64) {
	if w.err != nil {
		return majorOther, 0
	}
	if w.off >= len(w.b) {
		w.fail("input ends early")
		return majorOther, 0
	}
	first := w.b[w.off]
	major, info := first>>5, first&31
	if info < 24 {
		w.off++
		return major, uint64(info)
	}
	if info > 27 {
		w.fail("reserved or indefinite length")
		return majorOther, 0
	}
	size := 1 << (info - 24)
	if len(w.b)-w.off-1 < size {
		w.fail("input ends early")
		return majorOther, 0
	}
	for _, c := range w.b[w.off+1 : w.off+1+size] {
		value = value<<8 | uint64(c)
	}
	// Heads of floats have their own rules for the shortest form and are only
	// ever walked over.
	if major != majorOther && (size == 1 && value < 24 || size > 1 && value>>(uint(size)*4) == 0) {
		w.fail("integer is not in its shortest form")
		return majorOther, 0
	}
	if major == majorOther && size == 1 && value < 32 {
		w.fail("a simple value is reserved")
		return majorOther, 0
	}
	w.off += 1 + size
	return major, value
}

func (w *wire) want(want byte, name string) uint64 {
	major, value := w.head()
	if major != want {
		w.fail("want %s, found major type %d", name, major)
		return 0
	}
	return value
}

// uint reads an unsigned integer of at most limit.
func (w *wire) uint(limit uint64) uint64 {
	v := w.want(majorUint, "an unsigned integer")
	if v > limit {
		w.fail("%d is over the limit of %d", v, limit)
		return 0
	}
	return v
}

// int reads a signed integer within [-limit-1, limit].
func (w *wire) int(limit uint64) int64 {
	major, value := w.head()
	if major > majorNeg || value > limit {
		w.fail("want an integer of at most %d", limit)
		return 0
	}
	if major == majorNeg {
		return -1 - int64(value)
	}
	return int64(value)
}

func (w *wire) bool() bool {
	major, value := w.head()
	if major != majorOther || value != 20 && value != 21 {
		w.fail("want true or false")
	}
	return value == 21
}

// bytes returns a byte string of at most limit bytes. It aliases the input.
func (w *wire) bytes(limit int) []byte { return w.span(majorBytes, "a byte string", limit) }

// text returns a text string of at most limit bytes. It aliases the input.
func (w *wire) text(limit int) []byte {
	b := w.span(majorText, "a text string", limit)
	if !utf8.Valid(b) {
		w.fail("text is not UTF-8")
		return nil
	}
	return b
}

// texts reads an array of names, at least one, and copies them.
func (w *wire) texts(limit, bytes int) (list []string) {
	for n := w.array(limit); n > 0 && w.err == nil; n-- {
		s := w.text(bytes)
		if len(s) == 0 {
			w.fail("an empty text is in an array of names")
		}
		list = append(list, string(s))
	}
	if len(list) == 0 {
		w.fail("an empty array is left out") // or the same value had two encodings
	}
	return list
}

func (w *wire) span(major byte, name string, limit int) []byte {
	n := w.want(major, name)
	if w.err != nil {
		return nil
	}
	if n > uint64(limit) {
		w.fail("%d bytes are over the limit of %d", n, limit)
		return nil
	}
	if n > uint64(len(w.b)-w.off) {
		w.fail("input ends early")
		return nil
	}
	b := w.b[w.off : w.off+int(n) : w.off+int(n)]
	w.off += int(n)
	return b
}

// array reads the head of an array of at most limit items. An item takes at
// least one byte, so the length can never make a caller allocate more than
// the input's own size.
func (w *wire) array(limit int) int {
	n := w.want(majorArray, "an array")
	if n > uint64(limit) || n > uint64(len(w.b)-w.off) {
		w.fail("an array of %d items is too long", n)
		return 0
	}
	return int(n)
}

// fields walks the pairs of a map with unsigned keys.
type fields struct {
	left uint64
	key  uint64
	any  bool
}

func (w *wire) fields() fields {
	n := w.want(majorMap, "a map")
	if n > uint64(len(w.b)-w.off) {
		w.fail("a map of %d pairs is too long", n)
		n = 0
	}
	return fields{left: n}
}

// next moves to the next pair's value.
func (f *fields) next(w *wire) bool {
	if f.left == 0 || w.err != nil {
		return false
	}
	f.left--
	key := w.want(majorUint, "an unsigned key")
	if f.any && key <= f.key {
		w.fail("map keys are not ascending")
	}
	f.key, f.any = key, true
	return w.err == nil
}

// unknown refuses the field at hand as one that this release does not know.
func (f *fields) unknown(w *wire, what string) {
	w.fail("%s has the unknown field %d", what, f.key)
	if e, ok := w.err.(*decodeError); ok {
		e.unknown = true
	}
}

// raw returns one whole data item, whatever it is, after walking over it. It
// aliases the input.
func (w *wire) raw(limit int) []byte {
	start := w.off
	w.skip(maxDepth)
	if w.err != nil {
		return nil
	}
	if w.off-start > limit {
		w.fail("%d bytes are over the limit of %d", w.off-start, limit)
		return nil
	}
	return w.b[start:w.off:w.off]
}

func (w *wire) skip(depth int) {
	if depth == 0 {
		w.fail("nested too deeply")
		return
	}
	major, value := w.head()
	switch major {
	case majorBytes, majorText:
		if value > uint64(len(w.b)-w.off) {
			w.fail("input ends early")
			return
		}
		w.off += int(value)
	case majorArray, majorMap:
		items := value
		if major == majorMap {
			items *= 2
		}
		if value > uint64(len(w.b)-w.off) || items > uint64(len(w.b)-w.off) {
			w.fail("an array or map of %d items is too long", value)
			return
		}
		for ; items > 0 && w.err == nil; items-- {
			w.skip(depth - 1)
		}
	case 6: // tags: none of our formats has them
		w.fail("tags are not allowed")
	}
}

// end refuses input that goes on after what was read.
func (w *wire) end() error {
	if w.err == nil && w.off != len(w.b) {
		w.fail("%d bytes are left over", len(w.b)-w.off)
	}
	return w.err
}

// duration reads nanoseconds.
func (w *wire) duration() time.Duration { return time.Duration(w.int(1<<63 - 1)) }
