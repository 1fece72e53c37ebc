package history

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func collect(t *testing.T, dir string, torn *Torn) []Event {
	t.Helper()
	run, err := LoadRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []Event
	for e, err := range Read(dir, run, torn) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, *e)
	}
	return out
}

func ticking() Clock {
	var n time.Duration
	return func() time.Duration { n += 10; return n }
}

// sample is one event of every shape.
func sample() []Event {
	return []Event{
		{Kind: Enter, Phase: Steady},
		{Kind: Invoke, ID: 1, Process: 3, Op: Submit, Node: "n1", Key: "k1", Rules: &Rules{RetryLimit: 2, Backoff: 5, Effects: true}},
		{Kind: OK, ID: 1, Process: 3, Op: Submit, Node: "n1", Key: "k1", Task: "t1", Index: 7, Tasks: []View{{Task: "t1", Key: "k1", State: "queued", Index: 7}}},
		{Kind: Refused, ID: 2, Op: Submit, Code: "queue_full", Error: "full"},
		{Kind: Unknown, ID: 3, Op: Probe, Error: "no answer within 200ms"},
		{Kind: Inject, ID: 4, Fault: &Fault{Type: "kill", Targets: []string{"n1"}, Role: "leader", Params: map[string]string{"signal": "9"}}},
		{Kind: Bit, ID: 4, Text: "reaped"},
		{Kind: Sample, Node: "n2", Index: 9, State: &State{Leader: "n2", Term: 3, Hash: "ab"}, Counts: &Counts{Goroutines: 5, Memory: -1}},
		{Kind: Scanned, Scan: &Scan{Where: "n1/disk.img", Bytes: 1 << 20, Canaries: 3, Control: true}},
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	dir := t.TempDir()
	if err := (&Run{Scenario: "s", Seed: 9, Started: time.Unix(1_700_000_000, 0).UTC(), Nodes: []string{"n1"}}).Save(dir); err != nil {
		t.Fatal(err)
	}
	w, err := Create(dir, ticking())
	if err != nil {
		t.Fatal(err)
	}
	want := sample()
	for i := range want {
		want[i].At = int64(w.Add(want[i]))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Count() != int64(len(want)) {
		t.Errorf("%d events counted, want %d", w.Count(), len(want))
	}
	ledger := "k1 uuid-a begin 1700000000.500000000\nk1 uuid-a tick 1700000001.000000007\nhalf a\nk1 uuid-a end 17"
	if err := os.Mkdir(filepath.Join(dir, filepath.Dir(EffectsFile)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, EffectsFile), []byte(ledger), 0o600); err != nil {
		t.Fatal(err)
	}
	want = append(want,
		Event{At: 500e6, Kind: Took, Key: "k1", Effect: &Effect{Seq: 1, Token: "uuid-a", Step: Begin}},
		Event{At: 1e9 + 7, Kind: Took, Key: "k1", Effect: &Effect{Seq: 2, Token: "uuid-a", Step: Tick}})
	var torn Torn
	if got := collect(t, dir, &torn); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if torn != (Torn{Effects: 2}) {
		t.Errorf("torn is %+v, want the half line in the middle and the one at the end", torn)
	}
	if _, err := Create(dir, ticking()); err == nil {
		t.Error("a second run may write over a kept history")
	}
}

// A tester that is killed leaves any prefix of its file.
func TestEveryPrefixCanBeRead(t *testing.T) {
	var whole bytes.Buffer
	w := NewWriter(&whole, ticking())
	for _, e := range sample() {
		w.Add(e)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for n := range whole.Len() {
		var torn Torn
		got := 0
		for _, err := range Events(bytes.NewReader(whole.Bytes()[:n]), &torn) {
			if err != nil {
				t.Fatalf("a prefix of %d bytes: %v", n, err)
			}
			got++
		}
		part := whole.Bytes()[:n]
		if want := bytes.Count(part, []byte("\n")); got != want {
			t.Fatalf("a prefix of %d bytes gives %d events, want %d", n, got, want)
		}
		if half := n > 0 && part[n-1] != '\n'; half != (torn.Events == 1) {
			t.Fatalf("a prefix of %d bytes: torn is %+v", n, torn)
		}
	}
}

func TestDamageIsNoTornTail(t *testing.T) {
	damaged := `{"at":1,"kind":"note"}` + "\n" + `{"at":2,"ki` + "\n" + `{"at":3,"kind":"note"}` + "\n"
	var torn Torn
	events, failed := 0, false
	for _, err := range Events(strings.NewReader(damaged), &torn) {
		if err != nil {
			failed = true
			continue
		}
		events++
	}
	if !failed || events != 1 {
		t.Errorf("damage in the middle: failed %v after %d events, want an error after 1", failed, events)
	}
}

func TestOrderOfTimeUnderManyWriters(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out, Since(time.Now()))
	var wg sync.WaitGroup
	for p := range 8 {
		wg.Go(func() {
			for range 200 {
				w.Add(Event{Kind: Note, Process: p, ID: w.NextID()})
			}
		})
	}
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	last, ids := int64(-1), map[int64]bool{}
	for e, err := range Events(&out, new(Torn)) {
		if err != nil {
			t.Fatal(err)
		}
		if e.At < last {
			t.Fatalf("time runs back from %d to %d", last, e.At)
		}
		last, ids[e.ID] = e.At, true
	}
	if len(ids) != 1600 {
		t.Errorf("%d different IDs of 1600", len(ids))
	}
}

// full fails like a disk without room.
type full struct{ room int }

func (f *full) Write(b []byte) (int, error) {
	if f.room -= len(b); f.room < 0 {
		return 0, os.ErrInvalid
	}
	return len(b), nil
}

func TestFailedWritesAreTold(t *testing.T) {
	w := NewWriter(&full{}, ticking())
	w.Add(Event{Kind: Note})
	if err := w.Flush(); err == nil {
		t.Fatal("a write that failed is not told by Flush")
	}
	w.Add(Event{Kind: Note})
	if err := w.Close(); err == nil {
		t.Error("a write that failed is not told by Close")
	}
}

func TestBadLedgerLines(t *testing.T) {
	for _, line := range []string{"", "k token begin", "k token begun 1.0", "k token begin x", "k token begin 1.x", "k token begin 1 2"} {
		if _, err := ParseEffect(line, 1, time.Time{}); err == nil {
			t.Errorf("%q is taken for an effect", line)
		}
	}
}
