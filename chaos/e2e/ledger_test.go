package e2e

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/client"
)

// ledger is a host folder that tasks write their effects to. Appends of one
// host to one file have one order, so that the file itself proves which
// attempt did what first; no clock is needed.
type ledger struct {
	dir, file string
}

// owner is the non-root user whose folder the tasks may write to.
const owner = 65534

func newLedger(t *testing.T) *ledger {
	t.Helper()
	dir := scratch(t)
	// The way to the grant must be open to its owner.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l := &ledger{dir: filepath.Join(dir, "ledger")}
	l.file = filepath.Join(l.dir, "effects")
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(l.dir, owner, owner); err != nil {
		t.Fatal(err)
	}
	return l
}

// task writes an effect every few milliseconds until it is ended. Each
// attempt calls itself by a random name; at holds the boot clock in seconds.
func (l *ledger) task(name string) client.TaskSpec {
	spec := shell(name, `
		me=$(cat /proc/sys/kernel/random/uuid)
		while :; do
			read at rest < /proc/uptime
			echo "$me $at" >> /ledger/effects
			sleep 0.02
		done`)
	spec.Mounts = []client.Mount{{Source: l.dir, Target: "/ledger", Writable: true}}
	return spec
}

type effect struct{ attempt, at string }

func (l *ledger) read() ([]effect, error) {
	f, err := os.Open(l.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []effect
	for lines := bufio.NewScanner(f); lines.Scan(); {
		attempt, at, ok := strings.Cut(lines.Text(), " ")
		if !ok {
			return nil, fmt.Errorf("ledger line %d: %q", len(out)+1, lines.Text())
		}
		out = append(out, effect{attempt, at})
	}
	return out, nil
}

// attempts are the names in the ledger in the order of their first effects.
func attempts(effects []effect) []string {
	var out []string
	seen := map[string]bool{}
	for _, e := range effects {
		if !seen[e.attempt] {
			seen[e.attempt] = true
			out = append(out, e.attempt)
		}
	}
	return out
}

// overlap names the first effect of an attempt after the first of a later
// one; empty if attempts never ran beside each other.
func overlap(effects []effect) string {
	order := map[string]int{}
	for i, a := range attempts(effects) {
		order[a] = i
	}
	newest, begun := 0, ""
	for i, e := range effects {
		n := order[e.attempt]
		if n > newest {
			newest, begun = n, e.at
		}
		if n < newest {
			last := e.at
			for _, later := range effects[i:] {
				if later.attempt == e.attempt {
					last = later.at
				}
			}
			return fmt.Sprintf("attempt %d still took effect at %s s and until %s s of the boot clock, attempt %d had begun at %s s", n+1, e.at, last, newest+1, begun)
		}
	}
	return ""
}

func TestOverlapIsFound(t *testing.T) {
	for _, c := range []struct {
		effects string
		found   bool
	}{
		{"", false}, {"a a a", false}, {"a a b b c", false}, {"a a b a", true}, {"a b b c b", true},
	} {
		var es []effect
		for i, name := range strings.Fields(c.effects) {
			es = append(es, effect{name, fmt.Sprint(i)})
		}
		if got := overlap(es); (got != "") != c.found {
			t.Errorf("%q: %q", c.effects, got)
		}
	}
}
