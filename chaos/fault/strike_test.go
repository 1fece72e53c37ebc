package fault

import (
	"errors"
	"testing"

	"holdfast/chaos/scenario"
)

// The process of a node belongs to one strike at a time.
func TestClaims(t *testing.T) {
	l := &Lab{owner: map[*Node]*Strike{}}
	n1, n2 := &Node{Name: "node1"}, &Node{Name: "node2"}
	a := &Strike{lab: l, Targets: []*Node{n1}}
	b := &Strike{lab: l, Targets: []*Node{n2, n1}}
	if err := l.claim(a); err != nil {
		t.Fatal(err)
	}
	if err := l.claim(b); !errors.Is(err, ErrBusy) {
		t.Errorf("a node was claimed twice: %v", err)
	}
	if l.Owned(n2) {
		t.Error("a claim that was refused holds a node")
	}
	a.Release()
	if err := l.claim(b); err != nil || !l.Owned(n1) || !l.Owned(n2) {
		t.Errorf("after the release: %v", err)
	}
}

func TestShapes(t *testing.T) {
	const n = 5
	reach := func(name string) (degrees [n]int) {
		connected := shape(name, n)
		for a := range n {
			for b := range n {
				if a == b {
					continue
				}
				if connected(a, b) != connected(b, a) {
					t.Errorf("%s: %d and %d disagree", name, a, b)
				}
				if connected(a, b) {
					degrees[a]++
				}
			}
		}
		return degrees
	}
	for name, want := range map[string][n]int{
		"halves": {1, 1, 2, 2, 2}, "ring": {2, 2, 2, 2, 2}, "bridge": {2, 2, 2, 2, 4},
	} {
		if got := reach(name); got != want {
			t.Errorf("%s: each reaches %v others, want %v", name, got, want)
		}
	}
}

// Without a majority the clock of a pause starts at the heal.
func TestNoQuorum(t *testing.T) {
	for _, c := range []struct {
		fault, role string
		want        bool
	}{
		{"kill", scenario.All, true}, {"power", scenario.Majority, true}, {"kill", scenario.Minority, false},
		{"clock-jump", scenario.All, false}, {"isolate", scenario.Leader, false},
	} {
		s := &Strike{Step: scenario.Step{Fault: c.fault, On: scenario.Target{Role: c.role}}}
		if got := s.Fault().NoQuorum; got != c.want {
			t.Errorf("%s on %s: no quorum %v", c.fault, c.role, got)
		}
	}
}

// Every fault of the catalogue for real processes is there, and no other.
func TestCatalogueIsMade(t *testing.T) {
	for _, f := range scenario.Faults {
		if makers[f.Name] == nil {
			t.Errorf("fault %s is in the catalogue and not here", f.Name)
		}
	}
	for name := range makers {
		if _, ok := scenario.Find(name); !ok {
			t.Errorf("fault %s is here and not in the catalogue", name)
		}
	}
}
