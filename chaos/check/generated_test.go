package check

import (
	"testing"

	"holdfast/chaos/history"
)

const worlds = 60

func judgeWorld(t *testing.T, seed uint64, bug string) *Judgement {
	t.Helper()
	h := newWorld(seed, bug).run(600)
	j, err := Judge(&h.run, history.Slice(h.events), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// Whatever a correct cluster does, under whatever overlap, is found correct.
func TestCorrectWorldsHold(t *testing.T) {
	for seed := range uint64(worlds) {
		j := judgeWorld(t, seed, "")
		for _, v := range j.Verdicts {
			if v.Kind == Safety && (v.Outcome == Violated || v.Outcome == Undecided) {
				t.Errorf("seed %d: %s: %s %+v", seed, v.Check, v.Why, v.Violations)
			}
		}
		for _, check := range []string{"linearizable", "acknowledged-never-lost", "one-terminal-state", "index-never-back", "request-takes-effect-once"} {
			if v := j.Verdict(check); v.Outcome != Held {
				t.Errorf("seed %d: %s is %s", seed, check, v.Outcome)
			}
		}
	}
}

// Each bug is found by the check that is there for it, in most worlds.
func TestBugsOfWorldsAreFound(t *testing.T) {
	for bug, check := range map[string]string{
		"a task is lost":               "acknowledged-never-lost",
		"a task lives again":           "one-terminal-state",
		"a request makes two tasks":    "request-takes-effect-once",
		"a cancel has no effect":       "linearizable",
		"a cancel of what has ended":   "one-terminal-state",
		"a strong read is stale":       "linearizable",
		"a refused write takes effect": "refused-has-no-effect",
		"a client goes back":           "index-never-back",
	} {
		t.Run(bug, func(t *testing.T) {
			found := 0
			for seed := range uint64(worlds) {
				if judgeWorld(t, seed, bug).Verdict(check).Outcome == Violated {
					found++
				}
			}
			t.Logf("%s finds it in %d of %d worlds", check, found, worlds)
			if found < worlds*3/4 {
				t.Errorf("%s finds it in %d of %d worlds only", check, found, worlds)
			}
		})
	}
}
