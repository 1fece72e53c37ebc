package main

import (
	"reflect"
	"strings"
	"testing"

	"holdfast/chaos/scenario"
)

// TestChaosPage compares the page's tables with the catalogue of faults and
// with the fields of a scenario.
func TestChaosPage(t *testing.T) {
	faults := map[string]bool{}
	for _, f := range scenario.Faults {
		faults[f.Name] = true
	}
	sameKeys(t, "faults", faults, column(t, "chaos.md", "Faults"))

	fields := map[string]bool{}
	keysOf(reflect.TypeFor[scenario.Scenario](), "yaml", "", fields, false)
	for k := range fields { // a step's fields are told at the schedule
		if strings.HasPrefix(k, "schedule.") || strings.HasPrefix(k, "random.pick.") {
			delete(fields, k)
		}
	}
	fields["schedule"], fields["random.pick"] = true, true
	sameKeys(t, "fields of a scenario", fields, column(t, "chaos.md", "Fields"))

	roles := strings.Join(scenario.RoleHelp(), " ")
	for target := range column(t, "chaos.md", "Targets") {
		for _, name := range strings.Split(strings.ReplaceAll(target, "`", ""), ", ") {
			if !strings.Contains(roles, name) {
				t.Errorf("the page has the target %s, which does not exist", name)
			}
		}
	}
}
