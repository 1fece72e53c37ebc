package sandbox

import (
	"fmt"
	"strings"
	"testing"
)

// attack is one threat, tried from inside a real sandbox by probe functions of
// attack_probe_test.go. Each line that a probe prints is "what result".
type attack struct {
	probe string
	args  []string
	spec  Spec
	// held are the lines that must be there, cold and warm, with every wall up.
	held []string
	// Each twin switches walls off and names lines by which the attack then
	// gets further: a test that does not see the difference sees nothing.
	twins []twin
}

type twin struct {
	off  control
	want []string
}

func (a attack) run(t *testing.T) {
	t.Helper()
	if len(a.twins) == 0 {
		t.Error("this attack has no twin: it was never seen to get further")
	}
	both(t, func(t *testing.T, r *Runtime) {
		o := probe(t, r, a.spec, a.probe, a.args...)
		if missing := missingLines(o, a.held); missing != nil {
			t.Errorf("want %q: %s", missing, o)
		}
	})
	for _, w := range a.twins {
		t.Run(fmt.Sprintf("without_%b", w.off), func(t *testing.T) {
			o := probe(t, testRuntime(t, w.off), a.spec, a.probe, a.args...)
			if missing := missingLines(o, w.want); missing != nil {
				t.Errorf("with control %b off the attack should get further, want %q: %s", w.off, missing, o)
			}
		})
	}
}

// missingLines returns what the output lacks. "a b|c" is satisfied by either
// "a b" or "a c": kernels differ in how they are configured. "ended x" stands
// for the result's reason.
func missingLines(o outcome, want []string) (missing []string) {
	got := lines(o.stdout)
	got["ended "+string(o.Reason)] = true
	for _, w := range want {
		what, results, _ := strings.Cut(w, " ")
		found := false
		for r := range strings.SplitSeq(results, "|") {
			found = found || got[what+" "+r]
		}
		if !found {
			missing = append(missing, w)
		}
	}
	return missing
}

// answers makes a line of every call: "name answer".
func answers(answer string, calls ...string) (out []string) {
	for _, c := range calls {
		out = append(out, c+" "+answer)
	}
	return out
}

// filtered is an attack by calls that the filter must answer, whatever the
// kernel would say to them: the probe asks the kernel what becomes of each
// number, and none of them is carried out.
func filtered(t *testing.T, eperm, enosys string) attack {
	t.Helper()
	numbers := callNumbers(t)
	e, n := strings.Fields(eperm), strings.Fields(enosys)
	all := append(append([]string(nil), e...), n...)
	a := attack{
		probe: "filter",
		held:  append(answers("EPERM", e...), answers("ENOSYS", n...)...),
		twins: []twin{{ctlSeccomp, answers("passed", all...)}},
	}
	for _, name := range all {
		if numbers[name] == "" {
			t.Fatalf("the table has no call %s", name)
		}
		a.args = append(a.args, name+"="+numbers[name])
	}
	return a
}
