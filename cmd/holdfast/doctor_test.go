package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"holdfast/sandbox"
)

func examination(change func(*sandbox.Examination)) sandbox.Examination {
	e := sandbox.Examination{
		Abilities: []sandbox.Ability{
			{Name: "privilege", Need: sandbox.NeedRequired, Available: true, Enforced: true, Detail: "root"},
			{Name: "landlock", Need: sandbox.NeedExplicit, Available: true, Enforced: true, Detail: "ABI 7"},
			{Name: "cgroup_io", Need: sandbox.NeedOptional, Available: true, Detail: "v1"},
			{Name: "yama", Need: sandbox.NeedNote, Detail: "not there"},
			{Name: "sandbox", Need: sandbox.NeedRequired, Available: true, Enforced: true},
		},
		Proof: sandbox.Proof{Took: time.Second, Checks: []sandbox.Check{
			{Name: "host_files", Tries: "see files", Outcome: sandbox.Held, Detail: "9 tries"},
			{Name: "landlock", Tries: "run outside", Outcome: sandbox.Held},
		}},
	}
	change(&e)
	return e
}

func TestDoctorVerdicts(t *testing.T) {
	cannot := &sandbox.ErrCannotIsolate{Ability: "landlock", Reason: "the kernel has none", Remedy: "sandbox.allow_missing: [landlock]"}
	for name, c := range map[string]struct {
		change func(*sandbox.Examination)
		code   int
		want   []string
	}{
		"complete": {func(*sandbox.Examination) {}, 0, []string{"every wall is up"}},
		"optional missing": {func(e *sandbox.Examination) { e.Abilities[2].Available = false }, 8,
			[]string{"can isolate tasks, without cgroup_io."}},
		"allowed to be missing": {func(e *sandbox.Examination) {
			e.Abilities[1].Available, e.Abilities[1].Enforced, e.Weaker = false, false, []string{"landlock"}
			e.Proof.Checks[1].Outcome = sandbox.NotTried
		}, 8, []string{"without landlock, the proof of landlock.", "landlock    not tried"}},
		"refused": {func(e *sandbox.Examination) {
			e.Cannot, e.Abilities[1].Available = cannot, false
			for i := range e.Proof.Checks {
				e.Proof.Checks[i].Outcome = sandbox.NotTried
			}
		}, 7, []string{"cannot isolate", "landlock: the kernel has none", "Do: sandbox.allow_missing: [landlock]", "Nothing was tried"}},
		"a leak": {func(e *sandbox.Examination) {
			e.Cannot = &sandbox.ErrCannotIsolate{Ability: "proof", Reason: "a sandbox could see /root", Remedy: "run elsewhere"}
			e.Proof.Checks[0].Outcome, e.Proof.Checks[0].Detail = sandbox.Escaped, "see /root\x1b[2J"
		}, 7, []string{"host_files  escaped", "could see /root"}},
		"not known": {func(e *sandbox.Examination) { e.Abilities[2].Available, e.Abilities[2].Unknown = false, true }, 0, []string{"unknown"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			a := &app{out: &out, err: &out, env: func(string) (string, bool) { return "", false }}
			r := reportOf(examination(c.change))
			if r.code() != c.code {
				t.Errorf("code %d, want %d", r.code(), c.code)
			}
			a.showExamination(r)
			for _, w := range c.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("%q is not in\n%s", w, out.String())
				}
			}
			if strings.Contains(out.String(), "\x1b") {
				t.Error("control characters reach the terminal")
			}
			b, err := json.Marshal(r)
			if err != nil || !strings.Contains(string(b), `"verdict":"`+r.Verdict+`"`) {
				t.Errorf("%s, %v", b, err)
			}
		})
	}
}
