package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// etcCopied are folders of the host's /etc that programs below /usr lead to by
// links, and do not start without. They are copied: another mount would cost
// every sandbox, a few hundred KiB cost the launcher once.
var etcCopied = []string{"java-*-openjdk"}

// A folder that holds more is not what it is taken for, and is left out. The
// base has 4 MiB and 4,096 inodes.
const (
	maxCopiedBytes = 1 << 20
	maxCopiedFiles = 512
)

var errTooMuch = errors.New("too much to copy")

// copySmall copies what everybody may read of a folder, or nothing of one that is
// large. The launcher is nobody on the host: what is not for everybody it cannot
// open. Links are copied as they are, and lead into the sandbox's own root.
func copySmall(from, to string) error {
	files, left := 0, int64(maxCopiedBytes)
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if files++; files > maxCopiedFiles {
			return errTooMuch
		}
		if err != nil {
			return nil // closed to others, or gone
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case e.IsDir():
			return os.Mkdir(target, 0o755)
		case e.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return nil
			}
			return os.Symlink(link, target)
		case !e.Type().IsRegular():
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		if left -= info.Size(); left < 0 {
			return errTooMuch
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		return os.WriteFile(target, b, 0o444)
	})
	if errors.Is(err, errTooMuch) {
		return os.RemoveAll(to)
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}
