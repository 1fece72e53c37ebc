package workload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"holdfast/chaos/history"
)

// searchChunk is what is searched at a time; disks are larger than memory.
const searchChunk = 1 << 20

// Search looks for canary secrets, by name, in a file, as a disk's raw image,
// or in all files below a folder. The control is a text that lies there on
// purpose: a search that does not find it finds nothing.
func Search(root string, canaries map[string]string, control string) (history.Scan, error) {
	s := history.Scan{Where: root, Canaries: len(canaries)}
	if control == "" || len(canaries) == 0 {
		return s, errors.New("search for secrets: needs canaries and a control")
	}
	texts := map[string][]byte{}
	overlap := len(control)
	for name, text := range canaries {
		if len(text) < 8 {
			return s, fmt.Errorf("search for secrets: the canary %q has less than 8 bytes and is found by chance", name)
		}
		texts[name] = []byte(text)
		overlap = max(overlap, len(text))
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != root || err == nil && !d.Type().IsRegular() {
			return nil // a living node removes files
		}
		if err != nil {
			return err
		}
		err = searchFile(path, texts, []byte(control), overlap, &s)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return s, fmt.Errorf("search %s for secrets: %w", root, err)
	}
	return s, nil
}

func searchFile(path string, texts map[string][]byte, control []byte, overlap int, s *history.Scan) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	found := map[string]bool{}
	buf := make([]byte, overlap+searchChunk)
	kept := 0 // bytes from the chunk before: a text may lie across
	for at := int64(0); ; {
		n, err := io.ReadFull(f, buf[kept:])
		part := buf[:kept+n]
		for _, name := range slices.Sorted(maps.Keys(texts)) {
			if i := bytes.Index(part, texts[name]); i >= 0 && !found[name] {
				found[name] = true
				s.Found = append(s.Found, fmt.Sprintf("%s at byte %d of %s", name, at-int64(kept)+int64(i), path))
			}
		}
		s.Control = s.Control || bytes.Contains(part, control)
		at += int64(n)
		s.Bytes += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		kept = copy(buf, part[max(0, len(part)-overlap):])
	}
}
