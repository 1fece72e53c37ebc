package workload

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/chaos/history"
	"holdfast/client"
)

// owner is who tasks with a grant to the ledger are: a writable grant must not
// be root's.
const owner = 65534

// Ledger is a folder of this host that attempts append their effects to. All
// appends of one host to one file have one order, so that the file proves by
// itself which attempt did what first; no clock is needed. Only the nodes of
// this host can be granted it.
type Ledger struct{ dir string }

// NewLedger makes the ledger of a run's folder. Tasks must be able to walk to
// it: its parents need to be open to everybody.
func NewLedger(run string) (*Ledger, error) {
	abs, err := filepath.Abs(run)
	if err != nil {
		return nil, fmt.Errorf("make a ledger: %w", err)
	}
	l := &Ledger{dir: filepath.Dir(filepath.Join(abs, history.EffectsFile))}
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a ledger: %w", err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(l.dir, owner, owner); err != nil {
			return nil, fmt.Errorf("give the ledger to the tasks: %w", err)
		}
	}
	return l, nil
}

// BootClock is the host's boot clock, for Run.Boot.
func BootClock() (time.Duration, error) {
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, fmt.Errorf("read the boot clock: %w", err)
	}
	seconds, _, _ := strings.Cut(string(b), " ")
	d, err := time.ParseDuration(seconds + "s")
	if err != nil {
		return 0, fmt.Errorf("read the boot clock: %w", err)
	}
	return d, nil
}

// grant is the ledger in a task's sandbox.
func (l *Ledger) grant() []client.Mount {
	return []client.Mount{{Source: l.dir, Target: "/ledger", Writable: true}}
}
