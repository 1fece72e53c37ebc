package scenario

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

const head = "name: x\nabout: y\n"

func TestParseCompletes(t *testing.T) {
	s, err := Parse([]byte(head + `
schedule:
  - {at: 5s, fault: kill}
  - {at: 9s, fault: delay, on: "link(leader, node(2))", with: {by: 250ms}}
random:
  pick:
    - {fault: loss, with: {share: 0.5}, weight: 3}
    - {fault: pause, on: minority, for: 1500ms}
`))
	if err != nil {
		t.Fatal(err)
	}
	kill, delay := s.Schedule[0], s.Schedule[1]
	if kill.On.Role != Leader || kill.For.D() != 2*time.Second {
		t.Errorf("the fault's defaults were not put in: %+v", kill)
	}
	if delay.On.String() != "link(leader,node(2))" || delay.With.Duration("by") != 250*time.Millisecond || delay.With.Duration("jitter") != 0 {
		t.Errorf("%+v", delay)
	}
	if got := s.Random.Pick[0].With.Ratio("share"); got != 0.5 {
		t.Errorf("share %v", got)
	}
	if s.Cluster.Nodes != 3 || s.Bounds.MinBites != 1 || s.Workload.Prober.Every.D() != 50*time.Millisecond {
		t.Errorf("defaults: %+v", s)
	}
	if !slices.Equal(s.Tiers, []Tier{Sim, Live}) {
		t.Errorf("tiers %v", s.Tiers)
	}
	if !slices.Equal(s.Needs(), []Need{NeedSwitch}) {
		t.Errorf("needs %v", s.Needs())
	}
}

// An error names its line and its field.
func TestParseErrors(t *testing.T) {
	for _, c := range []struct {
		text  string
		line  int
		field string
		says  string
	}{
		{"name: x\nabuot: y\n", 2, "abuot", "unknown field"},
		{"name: [\n", 1, "", ""},
		{"name: x\nname: z\n", 2, "", "already defined"},
		{"about: y\n", 0, "name", "hyphens"},
		{head + "cluster:\n  nodes: many\n", 4, "cluster.nodes", "a string cannot be a int"},
		{head + "cluster: {nodes: 12}\n", 3, "cluster.nodes", "from 1 to 9"},
		{head + "workload:\n  for: soon\n", 4, "workload.for", "soon"},
		{head + "workload:\n  mix: {dance: 1}\n", 4, "workload.mix.dance", "submit"},
		{head + "workload:\n  mix: {submit: 0}\n", 4, "workload.mix", "all weights"},
		{head + "schedule:\n- {at: 1s, fault: kil}\n", 4, "schedule[0].fault", "unknown fault"},
		{head + "schedule:\n- {at: 1s, fault: kill}\n- at: 2s\n  fault: kill\n  on: king\n", 7, "schedule[1].on", "unknown role"},
		{head + "schedule:\n- {at: 1s, fault: kill, on: clients}\n", 4, "schedule[0].on", "cannot aim"},
		{head + "schedule:\n- {at: 1s, fault: kill, on: node(4)}\n", 4, "schedule[0].on", "3 nodes"},
		{head + "schedule:\n- {at: 1h, fault: kill}\n", 4, "schedule[0].at", "within"},
		{head + "schedule:\n- {at: 1s, fault: transfer, for: 2s}\n", 4, "schedule[0].for", "over by itself"},
		{head + "schedule:\n- at: 1s\n  fault: loss\n  with:\n    share: 120%\n", 7, "schedule[0].with.share", "100%"},
		{head + "schedule:\n- at: 1s\n  fault: loss\n  with:\n    much: 12%\n", 7, "schedule[0].with.much", "it has share"},
		{head + "random: {every: 1s}\n", 3, "random.pick", "nothing to pick"},
		{head + "random: {pick: [{fault: kill, at: 1s}]}\n", 3, "random.pick[0].at", "no time"},
		{head + "tiers: [moon]\n", 3, "tiers[0]", "unknown tier"},
		{head + "tiers: [sim]\nschedule: [{at: 1s, fault: twin}]\n", 3, "tiers[0]", "no fault twin"},
		{head + "guards: [P13]\n", 3, "guards[0]", "P1 to P12"},
		{"", 0, "", "documents"},
	} {
		_, err := Parse([]byte(c.text))
		if err == nil {
			t.Errorf("%q was accepted", c.text)
			continue
		}
		var e *Error
		if !errors.As(err, &e) {
			if c.line != 0 || c.field != "" {
				t.Errorf("%q: %v has no place", c.text, err)
			}
		} else if e.Line != c.line || e.Field != c.field {
			t.Errorf("%q: line %d, field %q; want %d, %q: %v", c.text, e.Line, e.Field, c.line, c.field, err)
		}
		if !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v does not say %q", c.text, err, c.says)
		}
	}
}

func TestTargets(t *testing.T) {
	for in, want := range map[string]string{
		"leader": "leader", " node( 3 ) ": "node(3)", "holder(task)": "holder(task)",
		"link(leader, follower)": "link(leader,follower)", "link(node(1),any)": "link(node(1),any)",
		"": "", "node": "", "node(0)": "", "node(1": "", "holder(x)": "", "link(a)": "", "link(leader,clients)": "",
		"leader(2)": "", "link(link(any,any),any)": "", "king": "",
	} {
		got, err := ParseTarget(in)
		if want == "" {
			if err == nil {
				t.Errorf("%q was read as %s", in, got)
			}
			continue
		}
		if err != nil || got.String() != want {
			t.Errorf("%q: %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestCatalogueIsSound(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range Faults {
		if seen[f.Name] || !nameForm.MatchString(f.Name) || f.About == "" || len(f.On) == 0 || len(f.Tiers) == 0 {
			t.Errorf("fault %q: twice, or incomplete", f.Name)
		}
		seen[f.Name] = true
		for _, p := range f.Params {
			if err := p.check(p.Default); err != nil {
				t.Errorf("fault %s: default of %s: %v", f.Name, p.Name, err)
			}
		}
		s := Step{Fault: f.Name}
		f.complete(&s)
		if field, err := f.problem(s); err != nil {
			t.Errorf("fault %s: its own defaults: %s: %v", f.Name, field, err)
		}
	}
}

func TestPlan(t *testing.T) {
	s, err := Parse([]byte(head + `
workload: {for: 10m}
schedule: [{at: 7s, fault: transfer}]
random:
  every: 3s
  jitter: 2s
  at_once: 2
  pick:
    - {fault: kill, weight: 9}
    - {fault: pause, for: 5s}
`))
	if err != nil {
		t.Fatal(err)
	}
	plan := s.Plan(7)
	if !slices.EqualFunc(plan, s.Plan(7), func(a, b Step) bool { return a.At == b.At && a.Fault == b.Fault }) {
		t.Error("one seed gave two plans")
	}
	if slices.EqualFunc(plan, s.Plan(8), func(a, b Step) bool { return a.At == b.At && a.Fault == b.Fault }) {
		t.Error("two seeds gave one plan")
	}
	counts := map[string]int{}
	var last Duration
	for i, step := range plan {
		counts[step.Fault]++
		if step.At < last || step.At+step.For > s.Workload.For {
			t.Errorf("step %d at %s for %s: out of order, or past the end", i, step.At, step.For)
		}
		last = step.At
		busy := 0
		for _, other := range plan {
			if other.For > 0 && other.At <= step.At && step.At < other.At+other.For {
				busy++
			}
		}
		if busy > 2 {
			t.Errorf("step %d: %d faults at once", i, busy)
		}
	}
	if counts["transfer"] != 1 || counts["kill"] < 100 || counts["pause"] < 4 || counts["kill"] < 4*counts["pause"] {
		t.Errorf("drawn: %v", counts)
	}
}

func TestLasting(t *testing.T) {
	s, err := Parse([]byte(head + `
schedule: [{at: 1s, fault: kill}, {at: 9s, fault: kill}]
bounds: {min_bites: 2}
`))
	if err != nil {
		t.Fatal(err)
	}
	long := s
	s.Lasting(10 * sec)
	if len(s.Schedule) != 1 || s.Bounds.MinBites != 1 || s.Workload.For != 10*sec {
		t.Errorf("cut to 10 s: %+v", s)
	}
	if long.Lasting(anHour); len(long.Schedule) != 2 || long.Stop.After < long.Workload.For {
		t.Errorf("made longer: %+v", long)
	}
}

const anHour = 3600 * sec
