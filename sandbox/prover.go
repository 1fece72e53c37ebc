package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// proverName is argv[0] of this program inside a sandbox that tests the walls.
const proverName = "holdfast-sandbox-prover"

// challenge is what the node asks the prover to try, on its stdin.
type challenge struct {
	Task       string            `json:"task"` // proveWalls, proveMemory or provePIDs
	Namespaces map[string]string `json:"namespaces,omitempty"`
	Launcher   map[string]string `json:"launcher,omitempty"` // its namespaces: what is shared with it is shared by all sandboxes
	Hidden     []string          `json:"hidden,omitempty"`   // host paths that must not exist
	Dial       [][2]string       `json:"dial,omitempty"`     // listening on the host
	// Unreachable are addresses of the host to which there must be no way.
	Unreachable []string `json:"unreachable,omitempty"`
	PIDs        []int    `json:"pids,omitempty"`   // of the host
	Weaker      []string `json:"weaker,omitempty"` // walls that are not there
	CorePiped   bool     `json:"core_piped,omitempty"`
	Amount      int      `json:"amount,omitempty"` // bytes, or threads
}

const (
	proveWalls  = "walls"
	proveMemory = "memory"
	provePIDs   = "pids"
)

// finding is what the prover says of one check.
type finding struct {
	Name    string   `json:"name"`
	Could   []string `json:"could,omitempty"` // what it should not have been able to do
	Tries   int      `json:"tries"`
	Skipped string   `json:"skipped,omitempty"` // why nothing was tried
}

// namespaces are those that every sandbox has of its own. A sandbox shares its
// user namespace's parent and the time namespace with its launcher, and nothing
// else.
var namespaces = []string{"user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time"}

// isProver says whether this process is one. Outside a sandbox nobody is: the
// attempts below are harmless there too, but would say nothing.
func isProver() bool {
	if len(os.Args) != 1 || os.Args[0] != proverName || os.Getuid() != taskID {
		return false
	}
	seals, err := unix.FcntlInt(0, unix.F_GET_SEALS, 0)
	return err == nil && seals&unix.F_SEAL_WRITE != 0
}

// prove tries what the challenge says and prints its findings as a JSON list.
func prove() int {
	var c challenge
	if err := json.NewDecoder(os.Stdin).Decode(&c); err != nil {
		return 2
	}
	found := []finding{}
	switch c.Task {
	case proveWalls:
		for _, w := range walls {
			p := prover{challenge: c, finding: finding{Name: w.name}}
			w.try(&p)
			p.finish()
			found = append(found, p.finding)
		}
	case proveMemory:
		hold := make([]byte, c.Amount)
		for i := 0; i < len(hold); i += 4096 {
			hold[i] = 1
		}
		runtime.KeepAlive(hold)
	case provePIDs:
		// Threads count as processes do. Go gives up where it gets none: a
		// fatal error, and no list.
		var started sync.WaitGroup
		for range c.Amount {
			started.Add(1)
			go func() {
				runtime.LockOSThread()
				started.Done()
				_ = unix.Pause()
			}()
		}
		started.Wait()
		found = append(found, finding{Could: []string{fmt.Sprintf("start %d threads", c.Amount)}})
	}
	if json.NewEncoder(os.Stdout).Encode(found) != nil {
		return 2
	}
	return 0
}

// prover is one check at work.
type prover struct {
	challenge
	finding
}

// could notes a way out.
func (p *prover) could(format string, args ...any) {
	p.Could = append(p.Could, fmt.Sprintf(format, args...))
}

// tried notes a try and, if it was one, a way out.
func (p *prover) tried(out bool, format string, args ...any) {
	p.Tries++
	if out {
		p.could(format, args...)
	}
}

// maxFound bounds what one check says: a file system that is open as a whole
// has a thousand files.
const (
	maxFound     = 6
	maxFoundText = 200 // bytes
)

func (p *prover) finish() {
	if more := len(p.Could) - maxFound; more > 0 {
		p.Could = append(p.Could[:maxFound], fmt.Sprintf("and %d more", more))
	}
	for i, s := range p.Could {
		if len(s) > maxFoundText {
			p.Could[i] = s[:maxFoundText]
		}
	}
}
