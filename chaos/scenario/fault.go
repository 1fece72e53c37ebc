package scenario

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is an entry of the catalogue.
type Fault struct {
	Name   string
	Group  string // process, network, disk, clock, cluster, worker, client
	About  string
	On     []string // roles it may aim at; the first is the default
	For    Duration // default time until the heal; 0: it is over by itself
	Params []Param
	Tiers  []Tier
	Needs  []Need // of the live tier
}

// Need is what the live tier must have for a fault. "chaos doctor" tries each.
type Need string

// The needs.
const (
	NeedSwitch Need = "switch" // network namespaces behind a switch of our own: root and /dev/net/tun
	NeedDisk   Need = "disk"   // a file system per node: root and loop devices
	NeedCalls  Need = "calls"  // the node's system calls under our supervision: seccomp notification
	NeedClock  Need = "clock"  // the node's vDSO can be patched: ptrace rights, amd64
	NeedCgroup Need = "cgroup" // cgroups for the nodes' processes: root and their controllers
	NeedBuild  Need = "build"  // an earlier build of the binary: --previous
)

// Param is a parameter of a fault.
type Param struct {
	Name    string
	Kind    Kind
	Default string
	Choices []string // of a Choice
	About   string
}

// Kind is what a parameter's text must be.
type Kind string

// The kinds.
const (
	Time   Kind = "duration" // "250ms", also negative where that makes sense
	Ratio  Kind = "ratio"    // "5%" or "0.05"
	Count  Kind = "count"    // "5"
	Choice Kind = "choice"
)

// Params are a step's parameters, complete after Parse.
type Params map[string]string

// Duration is a parameter of kind Time. Asking for what the catalogue does not
// know is a bug, and panics.
func (p Params) Duration(name string) time.Duration {
	d, err := time.ParseDuration(p[name])
	must(name, p[name], err)
	return d
}

// Ratio is a parameter of kind Ratio, from 0 to 1.
func (p Params) Ratio(name string) float64 {
	r, err := parseRatio(p[name])
	must(name, p[name], err)
	return r
}

// Count is a parameter of kind Count.
func (p Params) Count(name string) int {
	n, err := strconv.Atoi(p[name])
	must(name, p[name], err)
	return n
}

func must(name, value string, err error) {
	if err != nil {
		panic(fmt.Sprintf("parameter %s = %q was not checked by Parse: %v", name, value, err))
	}
}

func parseRatio(s string) (float64, error) {
	n, percent := strings.CutSuffix(s, "%")
	r, err := strconv.ParseFloat(n, 64)
	if percent {
		r /= 100
	}
	if err != nil || r < 0 || r > 1 {
		return 0, fmt.Errorf("%q is no share from 0%% to 100%%", s)
	}
	return r, nil
}

// check says what is wrong with a value, or nothing.
func (p Param) check(v string) error {
	switch p.Kind {
	case Time:
		if _, err := time.ParseDuration(v); err != nil {
			return fmt.Errorf("%q is no duration, as 250ms is", v)
		}
	case Ratio:
		_, err := parseRatio(v)
		return err
	case Count:
		if n, err := strconv.Atoi(v); err != nil || n < 0 {
			return fmt.Errorf("%q is no number from 0", v)
		}
	case Choice:
		if !slices.Contains(p.Choices, v) {
			return fmt.Errorf("%q is none of %s", v, strings.Join(p.Choices, ", "))
		}
	}
	return nil
}

// Find returns a fault of the catalogue.
func Find(name string) (Fault, bool) {
	for _, f := range Faults {
		if f.Name == name {
			return f, true
		}
	}
	return Fault{}, false
}

// complete puts a step's defaults in.
func (f Fault) complete(s *Step) {
	if s.On.Role == Nothing && f.On[0] != Nothing {
		s.On, _ = ParseTarget(f.On[0])
	}
	if s.For == 0 {
		s.For = f.For
	}
	with := Params{}
	for _, p := range f.Params {
		with[p.Name] = p.Default
	}
	for k, v := range s.With {
		with[k] = v
	}
	s.With = with
}

// problem says what is wrong with a step and in which field, or nothing.
func (f Fault) problem(s Step) (field string, err error) {
	roles := f.roles()
	if s.On.Role != Nothing && !slices.Contains(roles, s.On.Role) {
		return "on", fmt.Errorf("fault %s cannot aim at %s; it may aim at %s", f.Name, s.On, strings.Join(f.On, ", "))
	}
	if s.For < 0 {
		return "for", fmt.Errorf("%s is negative", s.For)
	}
	if s.For > 0 && f.For == 0 {
		return "for", fmt.Errorf("fault %s is over by itself and lasts no set time", f.Name)
	}
	for name, v := range s.With {
		i := slices.IndexFunc(f.Params, func(p Param) bool { return p.Name == name })
		if i < 0 {
			return "with." + name, fmt.Errorf("fault %s has no such parameter; it has %s", f.Name, f.paramNames())
		}
		if err := f.Params[i].check(v); err != nil {
			return "with." + name, err
		}
	}
	return "", nil
}

func (f Fault) roles() []string {
	var out []string
	for _, on := range f.On {
		role, _, _ := strings.Cut(on, "(")
		out = append(out, role)
	}
	return out
}

func (f Fault) paramNames() string {
	if len(f.Params) == 0 {
		return "none"
	}
	var names []string
	for _, p := range f.Params {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}
