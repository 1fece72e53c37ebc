package frames

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Requests and answers are the bulk of the traffic, and reflection was most
// of their cost. Here they are written and read by hand: the same bytes, and
// the library stays the judge of everything unusual.

// CBOR's major types (RFC 8949, section 3.1), as the first byte of an item.
const (
	uintItem  = 0 << 5
	textItem  = 3 << 5
	arrayItem = 4 << 5
	mapItem   = 5 << 5
)

// AppendRequest is Append for a Request.
func AppendRequest(dst []byte, r *Request) ([]byte, error) {
	for i, s := range r.Specs {
		if err := decMode.Wellformed(s); err != nil {
			return dst, fmt.Errorf("%w: spec %d: %w", ErrMessage, i+1, err)
		}
	}
	start := len(dst)
	b := append(dst, 0, 0, 0, 0)
	pairs := uint64(2)
	if len(r.Specs) > 0 {
		pairs++
	}
	if r.Key != "" {
		pairs++
	}
	b = appendHead(b, mapItem, pairs)
	b = appendHead(append(b, 1), uintItem, r.Number)
	b = appendHead(append(b, 2), uintItem, uint64(r.Method))
	if len(r.Specs) > 0 {
		b = appendHead(append(b, 3), arrayItem, uint64(len(r.Specs)))
		for _, s := range r.Specs {
			b = append(b, s...)
		}
	}
	if r.Key != "" {
		b = appendHead(append(b, 4), textItem, uint64(len(r.Key)))
		b = append(b, r.Key...)
	}
	n := len(b) - start - headerBytes
	if n > MaxFrame {
		return dst, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, n, MaxFrame)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(n))
	return b, nil
}

// appendHead appends the head of an item in its shortest form.
func appendHead(b []byte, item byte, v uint64) []byte {
	switch {
	case v < 24:
		return append(b, item|byte(v))
	case v < 1<<8:
		return append(b, item|24, byte(v))
	case v < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, item|25), uint16(v))
	case v < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, item|26), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, item|27), v)
}

// NextAnswer is Next for an Answer.
func (r *Reader) NextAnswer(a *Answer) error {
	b, err := r.frame()
	if err != nil {
		return err
	}
	if *a = (Answer{}); a.scan(b) {
		return nil
	}
	*a = Answer{}
	return decode(b, a)
}

// scan reads what a node of this release writes, keys in rising order, and
// tells whether it was that.
func (a *Answer) scan(b []byte) bool {
	pairs, b, ok := head(b, mapItem)
	last := uint64(0)
	for ; pairs > 0 && ok; pairs-- {
		var key, v uint64
		if key, b, ok = head(b, uintItem); !ok || key <= last {
			return false
		}
		last = key
		if key == 6 {
			if v, b, ok = head(b, textItem); !ok || v > uint64(len(b)) || !utf8.Valid(b[:v]) {
				return false
			}
			a.Detail, b = string(b[:v]), b[v:]
			continue
		}
		if v, b, ok = head(b, uintItem); !ok {
			return false
		}
		switch key {
		case 1:
			a.Number = v
		case 2:
			a.Code, ok = Code(v), v < 1<<8
		case 3:
			a.First = v
		case 4:
			a.Count, ok = uint32(v), v < 1<<32
		case 5:
			a.Index = v
		case 7:
			a.RetryAfterMS, ok = uint32(v), v < 1<<32
		default:
			return false
		}
	}
	return ok && len(b) == 0
}

// head reads the head of an item.
func head(b []byte, item byte) (v uint64, rest []byte, ok bool) {
	if len(b) == 0 || b[0]&^31 != item {
		return 0, nil, false
	}
	info, b := b[0]&31, b[1:]
	if info < 24 {
		return uint64(info), b, true
	}
	n := 1 << (info - 24)
	if info > 27 || len(b) < n {
		return 0, nil, false
	}
	for _, x := range b[:n] {
		v = v<<8 | uint64(x)
	}
	return v, b[n:], true
}
