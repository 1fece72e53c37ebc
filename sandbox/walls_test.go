package sandbox

import (
	"slices"
	"strings"
	"testing"
)

// On the host itself the checks that may run there find a way out: none of them
// holds for the wrong reason. The others are shown to fail by switching walls off.
func TestWallsFailOnTheHost(t *testing.T) {
	needRoot(t)
	r := testRuntime(t, 0)
	c, closeHost, err := r.hostTargets()
	if err != nil {
		t.Fatal(err)
	}
	defer closeHost()
	// Signal 0 reaches and does nothing; all else here only looks.
	harmless := []string{"identity", "namespaces", "host_files", "host_processes", "signals", "network", "read_only_root"}
	for _, w := range walls {
		if !slices.Contains(harmless, w.name) {
			continue
		}
		p := prover{challenge: c, finding: finding{Name: w.name}}
		w.try(&p)
		p.finish()
		if len(p.Could) == 0 || p.Tries == 0 {
			t.Errorf("%s holds on the host", w.name)
		}
		if w.name != "network" {
			continue
		}
		for _, ip := range c.Unreachable {
			if !slices.ContainsFunc(p.Could, func(s string) bool { return strings.Contains(s, ip) }) && len(p.Could) < maxFound {
				t.Errorf("%s was not reached: %v", ip, p.Could)
			}
		}
	}
}

func TestFindingsAreBounded(t *testing.T) {
	var p prover
	for range 100 {
		p.tried(true, "%s", strings.Repeat("x", 1000))
	}
	p.finish()
	if len(p.Could) != maxFound+1 || p.Could[maxFound] != "and 94 more" || len(p.Could[0]) != maxFoundText || p.Tries != 100 {
		t.Errorf("%d findings, %q", len(p.Could), p.Could)
	}
}

// Every check has a name of its own, and a sentence.
func TestWallsAreNamed(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range newProof("x").Checks {
		if seen[c.Name] || c.Name == "" || c.Tries == "" || c.Outcome != NotTried || c.Detail != "x" {
			t.Errorf("%+v", c)
		}
		seen[c.Name] = true
	}
}
