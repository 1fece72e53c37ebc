package policy

import (
	"testing"

	"holdfast/fsm"
)

// guards P8: nothing is allowed that no rule allows.
func TestDecide(t *testing.T) {
	p := New(map[string]Rule{
		"open":     {Public: true},
		"read":     {Least: fsm.RoleViewer},
		"cancel":   {Least: fsm.RoleOperator, Own: fsm.RoleSubmitter},
		"all":      {Least: fsm.RoleAdmin},
		"nobody":   {},
		"joinonly": {Least: fsm.RoleNode}, // a rule's mistake must not open anything
	})
	const no, own, yes = 0, 1, 2
	roles := []fsm.Role{0, fsm.RoleViewer, fsm.RoleSubmitter, fsm.RoleOperator, fsm.RoleAdmin, fsm.RoleNode, 200}
	for action, want := range map[string][7]int{
		"open":     {yes, yes, yes, yes, yes, yes, yes},
		"read":     {no, yes, yes, yes, yes, no, no},
		"cancel":   {no, no, own, yes, yes, no, no},
		"all":      {no, no, no, no, yes, no, no},
		"nobody":   {},
		"joinonly": {},
		"unknown":  {},
		"":         {},
	} {
		for i, role := range roles {
			allowed, ownOnly := p.Decide(action, role)
			got := no
			if allowed {
				got = yes
			}
			if ownOnly {
				got = own
			}
			if got != want[i] || ownOnly && !allowed {
				t.Errorf("%q for role %d: got %d, want %d", action, role, got, want[i])
			}
		}
	}
}

// A higher role may do at least what a lower one may.
func TestRolesAreCumulative(t *testing.T) {
	p := Default()
	order := []fsm.Role{0, fsm.RoleViewer, fsm.RoleSubmitter, fsm.RoleOperator, fsm.RoleAdmin}
	for action, rule := range p.rules {
		for i := 1; i < len(order); i++ {
			low, lowOwn := p.Decide(action, order[i-1])
			high, highOwn := p.Decide(action, order[i])
			if low && (!high || highOwn && !lowOwn) {
				t.Errorf("%s: role %d may do less than role %d", action, order[i], order[i-1])
			}
		}
		if allowed, _ := p.Decide(action, fsm.RoleAdmin); !allowed {
			t.Errorf("%s: not even an admin may do it", action)
		}
		if allowed, _ := p.Decide(action, fsm.RoleNode); allowed && !rule.Public {
			t.Errorf("%s: a join token may do it", action)
		}
	}
}
