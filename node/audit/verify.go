package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Head is the end of a chain: keep it elsewhere to find out whether the end
// was cut off.
type Head struct {
	First uint64 // seq of the oldest record that is kept, 0 = none
	Seq   uint64 // of the last
	Hash  string // of the last
}

// Fault is the first place where a chain is not whole.
type Fault struct {
	File string
	Line int // from 1; 0 = the file itself
	Err  error
}

// Error names the place.
func (f *Fault) Error() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %v", f.File, f.Err)
	}
	return fmt.Sprintf("%s line %d: %v", f.File, f.Line, f.Err)
}

// Unwrap gives the reason.
func (f *Fault) Unwrap() error { return f.Err }

// Verify reads every file of a folder and checks the whole chain. A chain that
// is not whole gives a *Fault.
func Verify(dir string, key []byte) (Head, error) {
	files, err := list(dir)
	if err != nil {
		return Head{}, err
	}
	var head Head
	for _, f := range files {
		if head, err = scan(f, key, head); err != nil {
			return head, err
		}
	}
	return head, nil
}

// file is one file of the chain.
type file struct {
	path  string
	first uint64
}

func name(first uint64) string { return fmt.Sprintf("audit-%020d.jsonl", first) }

// list gives the files of a folder in the order of the chain.
func list(dir string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the audit log: %w", err)
	}
	var files []file
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), "audit-")
		digits, ok2 := strings.CutSuffix(digits, ".jsonl")
		if !ok || !ok2 {
			continue
		}
		first, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || e.Name() != name(first) {
			return nil, &Fault{File: filepath.Join(dir, e.Name()), Err: errors.New("is no name of an audit file")}
		}
		files = append(files, file{filepath.Join(dir, e.Name()), first})
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return files, nil
}

// scan checks one file, which continues the chain at head. It returns the
// chain's new end, also with an error.
func scan(f file, key []byte, head Head) (Head, error) {
	in, err := os.Open(f.path)
	if err != nil {
		return head, fmt.Errorf("open the audit log: %w", err)
	}
	defer in.Close()
	if head.Seq > 0 && f.first != head.Seq+1 {
		return head, &Fault{File: f.path, Err: fmt.Errorf("starts at record %d, and the file before ends at %d: a file or its end is missing", f.first, head.Seq)}
	}
	br, mac := bufio.NewReaderSize(in, maxLine), newMAC(key)
	for n := 1; ; n++ {
		line, err := br.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return head, nil
		}
		if err != nil {
			return head, &Fault{File: f.path, Line: n, Err: fmt.Errorf("%w: %w", errTorn, err)}
		}
		next, err := follow(head, f, bytes.TrimSuffix(line, []byte("\n")), mac)
		if err != nil {
			return head, &Fault{File: f.path, Line: n, Err: err}
		}
		head = next
	}
}

var errTorn = errors.New("the line has no end")

// follow checks that a line is the record after head.
func follow(head Head, f file, line []byte, mac hash.Hash) (Head, error) {
	r, err := parse(line, mac)
	if err != nil {
		return head, err
	}
	want := head.Seq + 1
	if head.Seq == 0 {
		want = f.first // older files may have been deleted, by age
	}
	switch {
	case r.Seq != want:
		return head, fmt.Errorf("is record %d where %d must be: records were deleted, inserted or moved", r.Seq, want)
	case head.Seq > 0 && r.Prev != head.Hash, r.Seq == 1 && r.Prev != genesis:
		return head, fmt.Errorf("record %d does not follow the record before: that one was changed or exchanged", r.Seq)
	}
	first := head.First
	if first == 0 {
		first = r.Seq
	}
	return Head{First: first, Seq: r.Seq, Hash: r.Hash}, nil
}
