package docs_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

var (
	testFuncRE = regexp.MustCompile(`^func (Test[A-Za-z0-9_]+)\(`)
	promiseRE  = regexp.MustCompile(`\bP(1[0-2]|[1-9])\b`)
	namedRE    = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
)

// guards reads the project's tests: every name, and the promises that each
// says it guards, in the comment before it or inside it.
func guards(t *testing.T) map[string]map[string]bool {
	t.Helper()
	out := map[string]map[string]bool{}
	eachSource(t, func(file, text string) {
		if !strings.HasSuffix(file, "_test.go") {
			return
		}
		current := "" // the test that lines belong to
		var before []string
		for line := range strings.Lines(text) {
			if m := testFuncRE.FindStringSubmatch(line); m != nil {
				current = m[1]
				if out[current] == nil {
					out[current] = map[string]bool{}
				}
				for _, p := range before {
					out[current][p] = true
				}
			}
			comment := strings.TrimSpace(line)
			if !strings.HasPrefix(comment, "//") {
				before = nil
				continue
			}
			_, what, ok := strings.Cut(comment, "guards ")
			if !ok {
				continue
			}
			for _, p := range promiseRE.FindAllString(what, -1) {
				if strings.HasPrefix(line, "//") {
					before = append(before, p)
				} else if current != "" {
					out[current][p] = true
				}
			}
		}
	})
	return out
}

// TestPromises wants every promise on the page, each with tests that exist and
// at least one that says it guards it.
func TestPromises(t *testing.T) {
	known := guards(t)
	promises := map[string]bool{}
	for _, row := range rows(t, "architecture.md", "Promises") {
		promises[row[0]] = true
		names := namedRE.FindAllStringSubmatch(row[2], -1)
		guarded := false
		for _, n := range names {
			guarded = guarded || known[n[1]][row[0]]
		}
		if !guarded {
			t.Errorf("%s: none of its tests says that it guards it", row[0])
		}
	}
	for i := 1; i <= 12; i++ {
		if p := fmt.Sprintf("P%d", i); !promises[p] {
			t.Errorf("promise %s is not on the page", p)
		}
	}
}

// TestNamedTestsExist wants every test that a page names to be there.
func TestNamedTestsExist(t *testing.T) {
	known := guards(t)
	for name, page := range pages(t) {
		for _, m := range namedRE.FindAllStringSubmatch(page, -1) {
			if known[m[1]] == nil {
				t.Errorf("%s names %s, which does not exist", name, m[1])
			}
		}
	}
	if len(known) < 100 {
		t.Fatalf("only %d tests were found", len(known))
	}
}
