package seccomp

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The table is text, so that a reader sees every call of the kernel with what
// becomes of it, and one machine can check the filters of all architectures.
//
//go:embed calls.txt
var callsText string

// The sections of the table.
const (
	actAllow  = "allow"
	actRule   = "rule" // by argument: rules has one of the call's name
	actEPERM  = "eperm"
	actENOSYS = "enosys"
)

// entry is one line of the table.
type entry struct {
	name, act string
	numbers   [2]int // by column; -1 where the architecture has no such call
}

// architecture is what a filter must know of one.
type architecture struct {
	name   string // as GOARCH
	audit  uint32 // AUDIT_ARCH_*
	column int
}

var architectures = []architecture{
	{"amd64", unix.AUDIT_ARCH_X86_64, 0},
	{"arm64", unix.AUDIT_ARCH_AARCH64, 1},
}

func parseTable(text string) ([]entry, error) {
	var out []entry
	act := ""
	names, numbers := map[string]bool{}, map[[2]int]bool{} // column, number
	for i, line := range strings.Split(text, "\n") {
		bad := func(why string) error { return fmt.Errorf("table of system calls, line %d: %s: %q", i+1, why, line) }
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		if len(f) == 1 {
			act = strings.Trim(f[0], "[]")
			if act != actAllow && act != actRule && act != actEPERM && act != actENOSYS {
				return nil, bad("no such section")
			}
			continue
		}
		e := entry{name: f[0], act: act}
		if len(f) != 3 || act == "" {
			return nil, bad("want a name and a number for each architecture, in a section")
		}
		for c := range e.numbers {
			n, err := strconv.Atoi(f[1+c])
			if f[1+c] == "-" {
				n = -1
			} else if err != nil || n < 0 {
				return nil, bad("not a number")
			}
			if n >= 0 && numbers[[2]int{c, n}] {
				return nil, bad("the number is there twice")
			}
			numbers[[2]int{c, n}], e.numbers[c] = true, n
		}
		if names[e.name] {
			return nil, bad("the name is there twice")
		}
		names[e.name] = true
		out = append(out, e)
	}
	return out, nil
}

// build makes the policy of an architecture from the table and the rules.
func build(table []entry, rules map[string]Rule, a architecture) (Policy, error) {
	p := Policy{Arch: a.audit, Rules: map[int]Rule{}, Default: Errno(unix.ENOSYS)}
	for _, e := range table {
		r := Rule{Default: RetAllow}
		switch e.act {
		case actRule:
			var ok bool
			if r, ok = rules[e.name]; !ok {
				return p, fmt.Errorf("system call %s: the table wants a rule and there is none", e.name)
			}
		case actEPERM:
			r.Default = Errno(unix.EPERM)
		case actENOSYS:
			r.Default = Errno(unix.ENOSYS)
		}
		if n := e.numbers[a.column]; n >= 0 {
			p.Rules[n] = r
		}
	}
	return p, nil
}
