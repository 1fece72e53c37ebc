package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"holdfast/chaos/check"
	"holdfast/chaos/history"
)

// script is a run by hand: twenty seconds of writes, a fault in the middle, and
// what is added.
func script(more ...history.Event) []history.Event {
	var out []history.Event
	id := int64(0)
	add := func(at int64, e history.Event) {
		e.At = at
		out = append(out, e)
	}
	add(0, history.Event{Kind: history.Enter, Phase: history.Steady})
	for at := int64(1e7); at < 20e9; at += 2e8 {
		if at > 10e9 && at < 13e9 {
			continue // the cluster has no leader
		}
		if at > 98e8 && at < 10e9 {
			add(at, history.Event{Kind: history.Inject, ID: 9001, Fault: &history.Fault{Type: "kill", Targets: []string{"n1"}, Role: "leader"}})
			add(at, history.Event{Kind: history.Bit, ID: 9001, Text: "<reaped>"})
		}
		if at > 14e9 && at < 142e8 {
			add(at, history.Event{Kind: history.Heal, ID: 9001})
			add(at, history.Event{Kind: history.Healed, ID: 9001})
		}
		id++
		key := fmt.Sprint("k", id)
		add(at, history.Event{Kind: history.Invoke, ID: id, Process: 1, Op: history.Submit, Key: key, Node: "n1"})
		add(at+3e6, history.Event{Kind: history.OK, ID: id, Process: 1, Op: history.Submit, Key: key, Node: "n1", Task: fmt.Sprint("t", id), Index: uint64(id)})
		for _, n := range []string{"n1", "n2"} {
			add(at+4e6, history.Event{Kind: history.Sample, Node: n, State: &history.State{Leader: "n1", Term: 3, Role: map[string]string{"n1": "leader", "n2": "voter"}[n], Queued: int(id)}})
		}
	}
	for _, e := range more {
		add(e.At, e)
	}
	return out
}

// lost is a strong read that does not know an acknowledged task.
func lost(text string) []history.Event {
	return []history.Event{
		{At: 21e9, Kind: history.Invoke, ID: 5000, Process: 2, Op: history.Get, Task: "t3", Node: "n2"},
		{At: 21e9 + 1, Kind: history.Refused, ID: 5000, Process: 2, Op: history.Get, Task: "t3", Node: "n2", Code: "not_found", Error: text},
	}
}

func reported(t *testing.T, events []history.Event, opt Options) *Report {
	t.Helper()
	run := &history.Run{Scenario: "by <hand>", Seed: 7, Tier: "T1", Started: time.Unix(1e9, 0), Command: "holdfast chaos run x.yaml --seed 7",
		Nodes: []string{"n1", "n2"}, Version: "v9", Binary: "abcd", Machine: map[string]string{"cpus": "2"}, Bounds: []history.Bound{{Fault: "kill", Max: time.Second}}}
	again := func() iter.Seq2[*history.Event, error] { return history.Slice(events) }
	j, err := check.Judge(run, again(), check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(run, j, again, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func written(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.HTML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// fetches finds what makes a browser ask somebody.
var fetches = regexp.MustCompile(`(?i)(src|href|action|poster|data)\s*=\s*["']?(https?:)?//|@import|url\(|<link|<base|fetch\(|XMLHttpRequest|import\(`)

func TestPageWorksOffline(t *testing.T) {
	page := written(t, reported(t, script(lost("gone")...), Options{}))
	if at := fetches.FindString(html.UnescapeString(page)); at != "" {
		t.Errorf("the page fetches something: %q", at)
	}
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil || doc == nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"safety violated", "exit code 1", "holdfast chaos run x.yaml --seed 7", "acknowledged-never-lost", "Lives of tasks in violations",
		"leader, term 3", "kill leader: n1", "abcd", "v9", "cpus", "srcdoc=", "Not covered", "p99", "queue depth",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
}

func TestTextsAreNoMarkup(t *testing.T) {
	page := written(t, reported(t, script(lost("<script>alert(1)</script>")...), Options{Smallest: "<b>x</b>"}))
	for _, bad := range []string{"<script>alert", "by <hand>", "<reaped>", "<b>x</b>"} {
		if strings.Contains(page, bad) {
			t.Errorf("%q came through as markup", bad)
		}
	}
}

func TestTimeline(t *testing.T) {
	r := reported(t, script(), Options{})
	tl := r.timeline
	if len(tl.gaps) != 1 || tl.gaps[0].to-tl.gaps[0].from < 3e9 {
		t.Errorf("gaps %+v, want the one of three seconds", tl.gaps)
	}
	if len(tl.faults) != 1 || len(tl.faults[0].spans) != 1 || tl.faults[0].spans[0].class != "fault" {
		t.Errorf("faults %+v", tl.faults)
	}
	if len(tl.nodes) != 2 || len(tl.nodes[0].spans) != 1 || tl.nodes[0].spans[0].class != "leader" || tl.nodes[1].spans[0].class != "voter" {
		t.Errorf("nodes %+v", tl.nodes)
	}
	sum := 0.0
	for _, v := range tl.acked {
		sum += v * float64(tl.width) / 1e9
	}
	if n := float64(r.Judgement.Acked); sum < n-0.01 || sum > n+0.01 {
		t.Errorf("the curve holds %.2f writes of %.0f", sum, n)
	}
	if p := tl.p50[tl.bucket(1e9)]; p > 0 && p != 3 {
		t.Errorf("the latency is drawn as %v ms, want 3", p)
	}
	// Samples come more seldom than buckets: their line goes on all the same,
	// but for the three seconds without any.
	page := written(t, r)
	queue := page[strings.Index(page, `class="line queued" d="`):]
	if pens := strings.Count(queue[:strings.Index(queue, "/>")], "M"); pens != 2 {
		t.Errorf("the queue's line has %d parts, want one before the pause and one after it", pens)
	}
	latency := page[strings.Index(page, `class="line p50" d="`):]
	if pens := strings.Count(latency[:strings.Index(latency, "/>")], "M"); pens != 2 {
		t.Errorf("the latency's line has %d parts, want one before the pause and one after it", pens)
	}
	if !strings.Contains(page, "bound violated") {
		t.Error("three seconds without a write are within a bound of one")
	}
}

func TestFaultsAtOnceHaveRowsOfTheirOwn(t *testing.T) {
	tl := newTimeline(10e9, nil)
	for i, at := range [][2]int64{{1e9, 4e9}, {2e9, 3e9}, {5e9, 6e9}} {
		tl.see(&history.Event{At: at[0], Kind: history.Inject, ID: int64(i), Fault: &history.Fault{Type: "kill"}})
	}
	for i, at := range [][2]int64{{1e9, 4e9}, {2e9, 3e9}, {5e9, 6e9}} {
		tl.see(&history.Event{At: at[1], Kind: history.Heal, ID: int64(i)})
	}
	tl.finish()
	if len(tl.faults) != 2 || len(tl.faults[0].spans) != 2 || len(tl.faults[1].spans) != 1 {
		t.Errorf("%+v", tl.faults)
	}
	if c := tl.faults[0].spans[0].class; c != "toothless" {
		t.Errorf("a fault that nothing showed to bite is drawn as %q", c)
	}
}

func TestLifeOverAllJournals(t *testing.T) {
	more := append([]history.Event{
		{At: 20e9, Kind: history.Took, Key: "k3", Effect: &history.Effect{Seq: 4, Token: "u1", Step: history.Begin}},
		{At: 20e9 + 5, Kind: history.Journal, Node: "n2", Task: "t3", Attempt: 1, Text: "started"},
	}, lost("gone")...)
	r := reported(t, script(more...), Options{})
	if len(r.Lives) != 1 || r.Lives[0].Task != "t3" {
		t.Fatalf("lives %+v", r.Lives)
	}
	all := ""
	last := int64(-1)
	for _, l := range r.Lives[0].Lines {
		all += l.Journal + ": " + l.Text + "\n"
		if l.At < last {
			t.Errorf("not in order of time: %+v", r.Lives[0].Lines)
		}
		last = l.At
	}
	for _, want := range []string{"client 1: 3: submit to n1", "ok at index 3", "ledger: line 4: attempt u1: begin", "n2: attempt 1: started", "fault 9001: inject kill", "not_found: gone"} {
		if !strings.Contains(all, want) {
			t.Errorf("the life does not tell %q:\n%s", want, all)
		}
	}
}

func TestFilesBesideThePage(t *testing.T) {
	dir := t.TempDir()
	r := reported(t, script(lost("gone")...), Options{Faults: []string{"kill", "slow-disk"}, Torn: history.Torn{Events: 1}})
	if err := r.Save(dir); err != nil {
		t.Fatal(err)
	}
	var back Report
	b, err := os.ReadFile(filepath.Join(dir, JSONFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if back.Code != check.CodeSafety || back.Run.Seed != 7 || len(back.Judgement.Verdicts) != len(r.Judgement.Verdicts) || len(back.Lives) != 1 {
		t.Errorf("the JSON holds %+v", back)
	}
	missing := strings.Join(back.Uncovered, "\n")
	for _, want := range []string{"no-leaks", "[slow-disk]", "1 of the history"} {
		if !strings.Contains(missing, want) {
			t.Errorf("%q is not said to be uncovered:\n%s", want, missing)
		}
	}
	if b, err = os.ReadFile(filepath.Join(dir, JUnitFile)); err != nil {
		t.Fatal(err)
	}
	var s junitSuite
	if err := xml.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	count := map[check.Outcome]int{}
	for _, v := range r.Judgement.Verdicts {
		count[v.Outcome]++
	}
	if s.Tests != len(r.Judgement.Verdicts) || s.Failures != count[check.Violated] || s.Skipped != count[check.NotExercised] || s.Errors != count[check.Undecided] || s.Failures == 0 || s.Skipped == 0 {
		t.Errorf("JUnit counts %+v, the verdicts %v", s, count)
	}
	if _, err := os.Stat(filepath.Join(dir, HTMLFile)); err != nil {
		t.Error(err)
	}
}

func TestNice(t *testing.T) {
	for in, want := range map[float64]float64{0: 1, 0.3: 0.5, 1: 1, 1.1: 2, 4.9: 5, 7: 10, 120: 200} {
		if got := nice(in); got < want*0.999 || got > want*1.001 {
			t.Errorf("nice(%v) = %v, want %v", in, got, want)
		}
	}
}
