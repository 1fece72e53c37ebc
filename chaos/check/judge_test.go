package check

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.uber.org/goleak"

	"holdfast/chaos/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func judged(t *testing.T, h *hand) *Judgement {
	t.Helper()
	j, err := Judge(&h.run, history.Slice(h.events), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestWhatNeverEndedIsUnknown(t *testing.T) {
	h := &hand{}
	h.begin(cancels("t1", "c")) // the tester was killed
	h.begin(submit("a"))
	h.begin(get("t1")).shows(history.View{Task: "t1", Key: "a", State: "cancelled", Index: 9})
	if v := judged(t, h).Verdict("linearizable"); v.Outcome != Held {
		t.Errorf("an operation without an end may take effect: %+v", v)
	}
}

func TestHistoriesThatAreNone(t *testing.T) {
	begin := history.Event{Kind: history.Invoke, ID: 1, Op: history.Get}
	end := history.Event{Kind: history.OK, ID: 1, Op: history.Get}
	for name, events := range map[string][]history.Event{
		"begins twice":     {begin, begin},
		"ends twice":       {begin, end, end},
		"ends before":      {end, begin},
		"begins nameless":  {{Kind: history.Invoke, Op: history.Get}},
		"two IDs confused": {begin, {Kind: history.OK, ID: 2}},
	} {
		if _, err := Judge(&history.Run{}, history.Slice(events), Options{}); err == nil {
			t.Errorf("an operation %s: judged all the same", name)
		}
	}
}

func TestTheSameHistoryGivesTheSameJudgement(t *testing.T) {
	h := &hand{}
	for _, list := range [][]example{clientExamples, linearExamples, effectExamples} {
		for _, x := range list {
			if !strings.HasPrefix(x.name, "forgotten") {
				x.build(h)
			}
		}
	}
	h.run = history.Run{}
	first := judged(t, h)
	for range 3 {
		if again := judged(t, h); !reflect.DeepEqual(first, again) {
			t.Fatalf("first %+v\nthen %+v", first, again)
		}
	}
}

func TestCode(t *testing.T) {
	verdict := func(k Kind, o Outcome) Verdict { return Verdict{Kind: k, Outcome: o} }
	safe := verdict(Safety, Held)
	for _, c := range []struct {
		want int
		list []Verdict
	}{
		{CodeHeld, []Verdict{safe, verdict(Bounded, NotExercised), verdict(Safety, NotExercised), verdict(Validity, Held)}},
		{CodeSafety, []Verdict{verdict(Bounded, Violated), verdict(Safety, Violated), verdict(Recovery, Violated)}},
		{CodeBound, []Verdict{safe, verdict(Recovery, Violated), verdict(Bounded, Violated), verdict(Safety, Undecided)}},
		{CodeNotHealed, []Verdict{verdict(Validity, Violated), verdict(Recovery, Violated)}},
		{CodeInconclusive, []Verdict{safe, verdict(Safety, Undecided)}},
		{CodeInconclusive, []Verdict{safe, verdict(Validity, Violated)}},
		{CodeInconclusive, []Verdict{safe, verdict(Validity, NotExercised)}},
	} {
		if got := (&Judgement{Verdicts: c.list}).Code(); got != c.want {
			t.Errorf("%+v ends with %d, want %d", c.list, got, c.want)
		}
	}
}

func TestSearchOutOfTimeIsUndecided(t *testing.T) {
	h := &hand{}
	one := h.begin(submit("a")) // two at once, or there is nothing to search
	h.write("a", "t1", 5)
	one.made("t1", 5)
	j, err := Judge(&h.run, history.Slice(h.events), Options{Patience: -time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if v := j.Verdict("linearizable"); v.Outcome != Undecided {
		t.Errorf("%+v", v)
	}
}

// What is replayed without a search must get the verdict of the search.
func TestOrderedStepsGetTheSameVerdict(t *testing.T) {
	sequential := 0
	for _, x := range linearExamples {
		h := &hand{}
		x.build(h)
		j := &judge{run: &h.run, limits: h.run.Limits, pending: map[int64]*call{}, begun: map[history.Phase]int64{}, book: newBook()}
		j.defaults()
		j.forget = newForgetter(j)
		for i := range h.events {
			if err := j.see(&h.events[i]); err != nil {
				t.Fatal(err)
			}
		}
		for _, l := range j.lives {
			if !ordered(l.steps) {
				continue
			}
			sequential++
			want := porcupine.CheckOperations(model(initial(l.steps), j.forget.may(l)), l.operations())
			if got := replay(l.steps, j.forget.may(l)) == nil; got != want {
				t.Errorf("%s: %v, the search says %v", x.name, got, want)
			}
		}
	}
	if sequential < 10 {
		t.Errorf("only %d lives were in order", sequential)
	}
}

func TestFailoverTable(t *testing.T) {
	h := &hand{}
	for i, pause := range []time.Duration{100, 300, 200} {
		id := int64(900 + i)
		h.writes(time.Second).fault(id, "kill").pass(pause * time.Millisecond).writes(time.Second)
		h.told(history.Bit, id).told(history.Heal, id).told(history.Healed, id).writes(6 * time.Second)
	}
	j := judged(t, h)
	if len(j.Failover) != 1 || j.Failover[0].N != 3 {
		t.Fatalf("%+v", j.Failover)
	}
	for what, c := range map[string][2]time.Duration{
		"p50": {j.Failover[0].P50, 200 * time.Millisecond}, "p99": {j.Failover[0].P99, 300 * time.Millisecond}, "max": {j.Failover[0].Max, 300 * time.Millisecond},
	} {
		// A write takes ten milliseconds more.
		if got := c[0] - c[1]; got < 0 || got > 12*time.Millisecond {
			t.Errorf("%s is %s, want about %s", what, c[0], c[1])
		}
	}
}

func TestFaultsBesideEachOther(t *testing.T) {
	h := &hand{}
	h.fault(901, "kill").fault(902, "slow-disk").told(history.Heal, 901).fault(903, "pause").told(history.Heal, 902).told(history.Heal, 903)
	got := map[int64][]int64{}
	for _, f := range judged(t, h).Faults {
		got[f.ID] = f.Beside
	}
	want := map[int64][]int64{901: {902}, 902: {901, 903}, 903: {902}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("beside each other: %v, want %v", got, want)
	}
}

func TestPicture(t *testing.T) {
	h := &hand{}
	h.write("a", "t1", 5)
	h.begin(cancels("t1", "c")).unknown()
	h.begin(get("t1")).refused("not_found")
	var page bytes.Buffer
	if err := Picture(&h.run, history.Slice(h.events), "t1", "", &page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<html", "get: not_found", "cancel: unknown"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the picture does not show %q", want)
		}
	}
	if strings.Contains(page.String(), "http://") && !strings.Contains(page.String(), "www.w3.org") {
		t.Error("the picture names an address")
	}
}
