package check

import (
	"os"
	"slices"
	"strings"
	"testing"

	"holdfast/chaos/docs"
	"holdfast/chaos/history"
)

// The page says which checks there are, what a violation of each means, and
// which promises they guard.
func TestPageListsEveryCheck(t *testing.T) {
	page, err := os.ReadFile("../../docs/chaos-report.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := docs.Table(string(page), "What each check proves")
	if err != nil {
		t.Fatal(err)
	}
	j, err := Judge(&history.Run{}, history.Slice(nil), Options{})
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string][]string{}
	for _, r := range rows {
		listed[strings.Trim(r[0], "`")] = r
	}
	for _, v := range j.Verdicts {
		r := listed[v.Check]
		if r == nil {
			t.Errorf("%s is not on the page", v.Check)
			continue
		}
		delete(listed, v.Check)
		kind := string(v.Kind)
		if v.Check == "every-fault-bit" {
			kind = string(Validity) // a run without faults needs none
		}
		if guards := strings.Join(v.Guards, ", "); r[1] != kind || r[2] != guards {
			t.Errorf("%s is %q for %q, the page says %q for %q", v.Check, kind, guards, r[1], r[2])
		}
	}
	for name := range listed {
		t.Errorf("the page lists %s, which does not exist", name)
	}
	codes, err := docs.Table(string(page), "The outcome of a check")
	if err != nil {
		t.Fatal(err)
	}
	var outcomes []string
	for _, r := range codes {
		outcomes = append(outcomes, strings.ReplaceAll(r[0], " ", "_"))
	}
	if want := []string{string(Held), string(Violated), string(NotExercised), string(Undecided)}; !slices.Equal(outcomes, want) {
		t.Errorf("the page lists the outcomes %v, there are %v", outcomes, want)
	}
}
