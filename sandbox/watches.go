package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// What watches files (inotify) is counted for each user, in the user namespace
// and in all above: what an attempt has, the host's root has too, who made the
// launcher's namespace. By default that is 128 instances in all, and with them
// gone no service of the host can watch a file. In the launcher's namespace each
// attempt has a user of its own: this bounds each, at no cost to its start, and
// not their sum.
const (
	watchers = 8
	watches  = 8192
)

// limitWatches sets the launcher's namespace's own bounds.
func limitWatches() error {
	for name, n := range map[string]int{"instances": watchers, "watches": watches} {
		err := os.WriteFile("/proc/sys/user/max_inotify_"+name, fmt.Append(nil, n), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without
			return fmt.Errorf("limit what a task can watch: %w", err)
		}
	}
	return nil
}
