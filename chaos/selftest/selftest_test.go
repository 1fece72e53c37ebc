package selftest

import (
	"bytes"
	"context"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
)

var (
	all   = flag.Bool("selftest.all", false, "run every mutant, as holdfast chaos selftest does")
	only  = flag.String("selftest.only", "", "run these mutants, separated by commas")
	seeds = flag.Int("selftest.seeds", 10, "seeds for each mutant")
	table = flag.String("selftest.table", "", "write the table here")
)

const module = "../.."

// Every mutant still has its place in the source, so that selftest cannot rot
// between two runs of it.
func TestMutantsHaveTheirPlace(t *testing.T) {
	var names []string
	for _, m := range Mutants() {
		if _, err := m.Patch(module); err != nil {
			t.Error(err)
		}
		if slices.Contains(names, m.Name) {
			t.Errorf("two mutants are called %s", m.Name)
		}
		names = append(names, m.Name)
	}
	if len(names) < 15 {
		t.Errorf("%d mutants, want 15 at least", len(names))
	}
	gone := Mutant{Name: "gone", File: "fsm/doc.go", Old: "no such text"}
	if _, err := gone.Patch(module); err == nil || !strings.Contains(err.Error(), "0 times") {
		t.Errorf("a mutant without a place got %v", err)
	}
}

// One mutant is built and found; with the flags, all of them.
func TestSelftest(t *testing.T) {
	o := Options{Module: module, Only: []string{"request-ids-forgotten"}, Seeds: 3, Out: &bytes.Buffer{}}
	if *all || *only != "" {
		o.Only, o.Seeds, o.Out = nil, *seeds, os.Stderr
		if *only != "" {
			o.Only = strings.Split(*only, ",")
		}
	}
	findings, err := Run(context.Background(), o)
	if err != nil {
		t.Error(err)
	}
	if *table != "" {
		if err := os.WriteFile(*table, []byte(Table(findings)), 0o600); err != nil {
			t.Error(err)
		}
	}
}

func TestReadingARun(t *testing.T) {
	checks, first := read([]byte("--- FAIL: TestSimulation (0.01s)\n    sim_test.go:79: two leaders at 1m0.5s: n1 and n2 lead in term 3\n    sim_test.go:79: log at 3.2s: x\n" +
		"    sim_test.go:79: two leaders at 4s: y\n    sim_test.go:81: seed 7: 3 nodes\n"))
	if !slices.Equal(checks, []string{"two leaders", "log"}) || first != "n1 and n2 lead in term 3" {
		t.Errorf("%q, %q", checks, first)
	}
	if checks, _ := read([]byte("panic: test timed out after 2m\n")); !slices.Equal(checks, []string{"end"}) {
		t.Errorf("%q", checks)
	}
}
