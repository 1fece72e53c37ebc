package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// eachSource visits every Go file of the project.
func eachSource(t *testing.T, visit func(file, text string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "bin" || p != root && strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		visit(filepath.ToSlash(rel), string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

var (
	metricRE    = regexp.MustCompile(`\bholdfast_(?:api|consensus|dispatch|scheduler|worker|sandbox|node|transport)_[a-z_]+\b`)
	metricLitRE = regexp.MustCompile(`"(holdfast_(?:api|consensus|dispatch|scheduler|worker|sandbox|node|transport)_[a-z_]+)"`)
	groupedRE   = regexp.MustCompile(`(?:counter|vec|histogram)\("([a-z_]+)"|Subsystem: sub, Name: "([a-z_]+)"`)
)

// metricNames reads the names of all metrics off the source.
func metricNames(t *testing.T) map[string]bool {
	known := map[string]bool{}
	eachSource(t, func(file, text string) {
		if strings.HasSuffix(file, "_test.go") {
			return
		}
		for _, m := range metricLitRE.FindAllStringSubmatch(text, -1) {
			known[m[1]] = true
		}
		if file == "consensus/metrics.go" {
			for _, m := range groupedRE.FindAllStringSubmatch(text, -1) {
				known["holdfast_consensus_"+m[1]+m[2]] = true
			}
		}
	})
	return known
}
