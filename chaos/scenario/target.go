package scenario

import (
	"fmt"
	"strconv"
	"strings"
)

// Target is what a fault aims at, by role: who has the role is found out when
// the step begins.
type Target struct {
	Role string
	N    int     // of node(n), from 1
	A, B *Target // of link(a,b)
}

// The roles.
const (
	Leader   = "leader"
	Follower = "follower" // a voter that does not lead
	Holder   = "holder"   // holder(task): the node that runs an attempt of the load
	Minority = "minority" // as many voters as may fail; the leader is among them in half of the draws
	Majority = "majority" // one more
	All      = "all"
	One      = "node" // node(n)
	Any      = "any"  // any node, drawn
	Link     = "link" // link(a,b)
	Clients  = "clients"
	Nothing  = "" // a fault of the whole cluster
)

var roles = []string{Leader, Follower, Holder, Minority, Majority, All, One, Any, Link, Clients}

func (t Target) String() string {
	switch t.Role {
	case One:
		return fmt.Sprintf("node(%d)", t.N)
	case Holder:
		return "holder(task)"
	case Link:
		return fmt.Sprintf("link(%s,%s)", t.A, t.B)
	}
	return t.Role
}

// MarshalText writes the form that ParseTarget reads.
func (t Target) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText is ParseTarget.
func (t *Target) UnmarshalText(b []byte) (err error) {
	*t, err = ParseTarget(string(b))
	return err
}

// ParseTarget reads a role, as in "leader", "node(2)" or "link(leader,any)".
func ParseTarget(s string) (Target, error) {
	role, args, call := strings.Cut(strings.TrimSpace(s), "(")
	role = strings.TrimSpace(role)
	if call {
		var ok bool
		if args, ok = strings.CutSuffix(args, ")"); !ok {
			return Target{}, fmt.Errorf("target %q: its bracket is not closed", s)
		}
	}
	switch {
	case role == One:
		n, err := strconv.Atoi(strings.TrimSpace(args))
		if err != nil || n < 1 {
			return Target{}, fmt.Errorf("target %q: write node(n) with a number from 1", s)
		}
		return Target{Role: One, N: n}, nil
	case role == Holder:
		if strings.TrimSpace(args) != "task" {
			return Target{}, fmt.Errorf("target %q: write holder(task)", s)
		}
		return Target{Role: Holder}, nil
	case role == Link:
		a, b, ok := strings.Cut(args, ",")
		if !ok {
			return Target{}, fmt.Errorf("target %q: write link(a,b) with two roles", s)
		}
		var ends [2]Target
		for i, end := range []string{a, b} {
			t, err := ParseTarget(end)
			if err != nil {
				return Target{}, err
			}
			if t.Role == Link || t.Role == Clients {
				return Target{}, fmt.Errorf("target %q: a link's ends are nodes", s)
			}
			ends[i] = t
		}
		return Target{Role: Link, A: &ends[0], B: &ends[1]}, nil
	case call:
		return Target{}, fmt.Errorf("target %q: only node(n), holder(task) and link(a,b) have arguments", s)
	}
	for _, r := range roles {
		if r == role {
			return Target{Role: role}, nil
		}
	}
	return Target{}, fmt.Errorf("target %q: unknown role; the roles are %s", s, strings.Join(RoleHelp(), ", "))
}

// RoleHelp names the roles as they are written.
func RoleHelp() []string {
	return []string{"leader", "follower", "holder(task)", "minority", "majority", "all", "node(n)", "any", "link(a,b)", "clients"}
}
