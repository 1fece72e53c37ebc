package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/chaos/history"
	"holdfast/chaos/report"
)

// keptRun is a run's folder as 'chaos run' leaves it, or as a killed one does.
func keptRun(t *testing.T, lost bool) string {
	t.Helper()
	dir := t.TempDir()
	if err := (&history.Run{Scenario: "kept", Seed: 3, Limits: history.Limits{Operations: 1}}).Save(dir); err != nil {
		t.Fatal(err)
	}
	w, err := history.Create(dir, history.Since(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	w.Add(history.Event{Kind: history.Invoke, ID: 1, Op: history.Submit, Key: "a", Node: "n1"})
	w.Add(history.Event{Kind: history.OK, ID: 1, Op: history.Submit, Key: "a", Node: "n1", Task: "t1", Index: 5})
	w.Add(history.Event{Kind: history.Invoke, ID: 2, Op: history.Get, Task: "t1", Node: "n2"})
	end := history.Event{Kind: history.OK, ID: 2, Op: history.Get, Task: "t1", Node: "n2", Index: 5, Tasks: []history.View{{Task: "t1", State: "queued", Index: 5}}}
	if lost {
		end = history.Event{Kind: history.Refused, ID: 2, Op: history.Get, Task: "t1", Node: "n2", Code: "not_found"}
	}
	w.Add(end)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, history.EventsFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"at":99,"ki`); err != nil { // the tester was killed here
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestChaosCheck(t *testing.T) {
	judge := func(args ...string) (int, string) {
		var out bytes.Buffer
		a := &app{out: &out, err: &out, env: func(string) (string, bool) { return "", false }}
		c := a.chaosCheckCmd()
		c.SilenceErrors, c.SilenceUsage = true, true
		c.SetArgs(args)
		err := c.ExecuteContext(t.Context())
		if err == nil {
			return 0, out.String()
		}
		return exitCode(t.Context(), err), out.String() + err.Error()
	}
	dir := keptRun(t, false)
	if code, out := judge(dir); code != 0 || !strings.Contains(out, "acknowledged-never-lost") || !strings.Contains(out, "held; report in") {
		t.Errorf("a good run: code %d\n%s", code, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, report.JSONFile))
	if err != nil {
		t.Fatal(err)
	}
	var r report.Report
	if err := json.Unmarshal(b, &r); err != nil || r.Torn.Events != 1 {
		t.Errorf("the torn line is not told: %+v, %v", r.Torn, err)
	}
	if code, out := judge(keptRun(t, true)); code != 1 || !strings.Contains(out, "unknown to n2") {
		t.Errorf("a run that lost a task: code %d\n%s", code, out)
	}
	if code, out := judge(t.TempDir()); code != 3 || !strings.Contains(out, "run.json") {
		t.Errorf("no run at all: code %d\n%s", code, out)
	}
}
