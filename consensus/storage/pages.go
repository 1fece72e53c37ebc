package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// checkPages walks every page of a bbolt file that its newest valid root
// reaches, and returns an error (errInconsistent) where bbolt would not survive
// the same walk.
//
// bbolt is told not to write its list of free pages (see openBolt), so that it
// finds them at open, by visiting all that are in use. On a damaged file that
// visit asserts, faults behind the end, or runs in circles, and it does so on a
// goroutine of bbolt's own, whose panic nobody can contain: the process would
// die without saying what is wrong. So the same conditions are checked before,
// without trust in any number that the file holds. It costs another read of the
// file, once per start. Nothing is authenticated here; entries are, when read.
//
// The format is bbolt's version 2: pages of a header and elements, in the
// byte order of the machine, which on all that we build for is little endian.
func checkPages(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return err // bbolt makes a new one
	}
	w := &pageWalk{f: f}
	root, err := w.findRoot()
	if err != nil {
		return err
	}
	return w.bucket(root)
}

const (
	pageHeader    = 16 // id 8, flags 2, count 2, overflow 4
	pageElement   = 16 // branch: pos 4, ksize 4, page 8; leaf: flags 4, pos 4, ksize 4, vsize 4
	bucketHeader  = 16 // root 8, sequence 8
	metaBytes     = 64 // of which the last 8 are the checksum
	pageBranch    = 0x01
	pageLeaf      = 0x02
	elementBucket = 0x01
	boltMagic     = 0xED0CDAED
	boltVersion   = 2
	maxPageSize   = 64 << 10 // bbolt takes the system's
)

type pageWalk struct {
	f    *os.File
	size int64           // of a page
	end  uint64          // pages from here on are not in use
	seen map[uint64]bool // each page belongs to one place
}

func inconsistent(page uint64, format string, args ...any) error {
	return fmt.Errorf("%w: page %d: %s", errInconsistent, page, fmt.Sprintf(format, args...))
}

// findRoot reads the two meta pages as bbolt does: the newer valid one counts.
func (w *pageWalk) findRoot() (root uint64, err error) {
	var newest uint64
	for _, at := range []int64{0, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10} {
		b := make([]byte, pageHeader+metaBytes)
		if _, err := w.f.ReadAt(b, at); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return 0, err
		}
		m, le := b[pageHeader:], binary.LittleEndian
		sum := fnv.New64a()
		_, _ = sum.Write(m[:metaBytes-8])
		size := int64(le.Uint32(m[8:]))
		if le.Uint32(m) != boltMagic || le.Uint32(m[4:]) != boltVersion || le.Uint64(m[56:]) != sum.Sum64() || at != 0 && at != size {
			continue
		}
		if txid := le.Uint64(m[48:]); w.seen == nil || txid > newest {
			newest, root = txid, le.Uint64(m[16:])
			w.size, w.end, w.seen = size, le.Uint64(m[40:]), map[uint64]bool{}
		}
	}
	if w.seen == nil || w.size < 1<<10 || w.size > maxPageSize {
		return 0, fmt.Errorf("%w: no valid meta page", errInconsistent)
	}
	return root, nil
}

// bucket walks the tree of one bucket, and of those within.
func (w *pageWalk) bucket(root uint64) error {
	_, err := w.page(root, nil, nil)
	return err
}

// read returns a page with its overflow, claimed for one place in the tree.
func (w *pageWalk) read(id uint64) ([]byte, error) {
	if id < 2 || id >= w.end {
		return nil, inconsistent(id, "outside of the %d in use", w.end)
	}
	head := make([]byte, pageHeader)
	if err := w.at(head, id); err != nil {
		return nil, err
	}
	over := uint64(binary.LittleEndian.Uint32(head[12:]))
	if got := binary.LittleEndian.Uint64(head); got != id {
		return nil, inconsistent(id, "says that it is %d", got)
	}
	if over >= w.end-id {
		return nil, inconsistent(id, "%d pages more are outside of the %d in use", over, w.end)
	}
	for i := id; i <= id+over; i++ {
		if w.seen[i] {
			return nil, inconsistent(i, "used twice")
		}
		w.seen[i] = true
	}
	b := make([]byte, int64(over+1)*w.size)
	return b, w.at(b, id)
}

func (w *pageWalk) at(b []byte, id uint64) error {
	_, err := w.f.ReadAt(b, int64(id)*w.size)
	if errors.Is(err, io.EOF) {
		return inconsistent(id, "behind the end of the file")
	}
	return err
}

// page walks one page and all below it. Keys lie in [from, to) and rise; the
// last one is returned.
func (w *pageWalk) page(id uint64, from, to []byte) (last []byte, err error) {
	b, err := w.read(id)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	kind, count := le.Uint16(b[8:]), int(le.Uint16(b[10:]))
	if kind != pageLeaf && kind != pageBranch || kind == pageBranch && count == 0 {
		return nil, inconsistent(id, "type %#x with %d elements", kind, count)
	}
	if pageHeader+count*pageElement > len(b) {
		return nil, inconsistent(id, "%d elements do not fit", count)
	}
	last = from
	for i := range count {
		e := pageHeader + i*pageElement
		key, value, err := element(b, id, e, kind)
		if err != nil {
			return nil, err
		}
		if c := bytes.Compare(last, key); last != nil && (c > 0 || c == 0 && i > 0) || to != nil && bytes.Compare(key, to) >= 0 {
			return nil, inconsistent(id, "key %d is out of order", i)
		}
		last = key
		switch {
		case kind == pageBranch:
			next := to
			if i+1 < count {
				if next, _, err = element(b, id, e+pageElement, kind); err != nil {
					return nil, err
				}
			}
			if last, err = w.page(le.Uint64(b[e+8:]), key, next); err != nil {
				return nil, err
			}
		case le.Uint32(b[e:])&elementBucket != 0:
			if len(value) < bucketHeader {
				return nil, inconsistent(id, "bucket %d is cut short", i)
			}
			if root := le.Uint64(value); root != 0 {
				err = w.bucket(root)
			} else if len(value) < bucketHeader+pageHeader {
				err = inconsistent(id, "bucket %d is cut short", i)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return last, nil
}

// element returns the key, and in a leaf the value, of the element at b[e].
func element(b []byte, id uint64, e int, kind uint16) (key, value []byte, err error) {
	le := binary.LittleEndian
	at, ksize, vsize := uint64(le.Uint32(b[e:])), uint64(le.Uint32(b[e+4:])), uint64(0)
	if kind == pageLeaf {
		at, ksize, vsize = uint64(le.Uint32(b[e+4:])), uint64(le.Uint32(b[e+8:])), uint64(le.Uint32(b[e+12:]))
	}
	start := uint64(e) + at // relative to the element
	if start+ksize+vsize > uint64(len(b)) {
		return nil, nil, inconsistent(id, "an element ends outside")
	}
	return b[start : start+ksize], b[start+ksize : start+ksize+vsize], nil
}
