package scenarios

import (
	"testing"

	"holdfast/chaos/scenario"
)

// Every shipped file is a scenario under its own name, and together they use
// every fault and name every promise that faults can break.
func TestShipped(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 24 {
		t.Errorf("%d scenarios, want 24 or more", len(all))
	}
	used, guarded := map[string]bool{}, map[string]bool{}
	for _, s := range all {
		if again, err := Get(s.Name); err != nil || again.Name != s.Name {
			t.Errorf("the file of scenario %s has another name: %v", s.Name, err)
		}
		if len(s.Guards) == 0 {
			t.Errorf("scenario %s guards no promise", s.Name)
		}
		for _, p := range s.Guards {
			guarded[p] = true
		}
		for _, step := range s.Steps() {
			used[step.Fault] = true
		}
		if plan := s.Plan(1); len(plan) < s.Bounds.MinBites {
			t.Errorf("scenario %s plans %d faults, and wants %d to bite", s.Name, len(plan), s.Bounds.MinBites)
		}
	}
	for _, f := range scenario.Faults {
		if !used[f.Name] {
			t.Errorf("no scenario has fault %s", f.Name)
		}
	}
	for _, p := range []string{"P1", "P2", "P3", "P4", "P5", "P9", "P10", "P11", "P12"} {
		if !guarded[p] {
			t.Errorf("no scenario guards %s", p)
		}
	}
}
