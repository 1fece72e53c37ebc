// Package holdfast_test guards the house itself: who may import whom, and how
// large a file may grow. docs/architecture.md draws the picture.
package holdfast_test

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "holdfast"

// rooms are the top-level folders and what each may import of the project,
// besides its own sub-folders.
var rooms = map[string][]string{
	"fsm":       {},
	"sandbox":   {},
	"transport": {},
	"client":    {},
	"consensus": {"fsm"},
	"node":      {"fsm", "sandbox", "transport", "client", "consensus"},
	"chaos":     {"client", "transport/faults"},
	"cmd":       {"node", "client", "chaos", "sandbox"},
}

// extra are imports that the table does not give, each with its reason.
var extra = map[string]string{
	// The simulation keeps the same history as every chaos run, and the same
	// checkers judge it; its tests alone import them.
	"node/sim chaos/history": "the form of a run's history",
	"node/sim chaos/check":   "the checkers of a run's history",
}

// importProblem says why a file of folder from may not import folder to, or
// nothing. Both are relative to the module.
func importProblem(from, to string) string {
	if extra[from+" "+to] != "" {
		return ""
	}
	room, _, _ := strings.Cut(from, "/")
	target, _, _ := strings.Cut(to, "/")
	allowed, known := rooms[room]
	switch {
	case !known:
		return "is in no known room"
	case room == "node" && to == simulation:
		return "the simulation is nobody's part"
	case from == simulation && to == "node":
		return "sub-folders of node are for node, not the other way"
	case room == "node" && target == "node":
		if from == "node" || from == simulation || siblings(from) == siblings(to) {
			return ""
		}
		return "sub-folders of node are for node alone"
	case room == target && target != "cmd":
		return ""
	}
	for _, a := range allowed {
		if to == a || strings.HasPrefix(to, a+"/") {
			if a == "node" && to != "node" {
				return "sub-folders of node are for node alone"
			}
			return ""
		}
	}
	return "breaks the rule of who may import whom"
}

// simulation wires the rooms of node as node does, but in memory, on a clock
// and with parts of its own. It cannot be node's own test, because those who
// build it for another platform could not build node.
const simulation = "node/sim"

// siblings is a sub-folder of node with everything below it.
func siblings(folder string) string {
	parts := strings.SplitN(folder, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

func TestImportRules(t *testing.T) {
	seen := 0
	eachGoFile(t, func(file string, src []byte) {
		from := path.Dir(file)
		if from == "." {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			to, ok := strings.CutPrefix(p, module+"/")
			if !ok {
				continue
			}
			seen++
			if why := importProblem(from, to); why != "" {
				t.Errorf("%s imports %s: %s", file, to, why)
			}
		}
	})
	if seen == 0 {
		t.Fatal("no import of the project was read: the test looks in the wrong place")
	}
}

// The rule itself must be able to say no.
func TestImportProblem(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"consensus", "fsm", true},
		{"consensus/storage", "fsm", true},
		{"fsm", "consensus", false},
		{"client", "fsm", false},
		{"transport/gossip", "transport", true},
		{"node", "node/api", true},
		{"node/api", "node/auth", false},
		{"node/sim", "node/worker/lease", true},
		{"node/sim", "node", false},
		{"node/api", "node/sim", false},
		{"node/worker/dispatch", "node/worker", true},
		{"node/api", "node", false},
		{"cmd/holdfast", "node", true},
		{"cmd/holdfast", "node/api", false},
		{"chaos/cluster", "client", true},
		{"chaos", "node", false},
		{"chaos", "transport/faults", true},
		{"chaos", "transport", false},
		{"attic", "fsm", false},
	} {
		if got := importProblem(c.from, c.to); (got == "") != c.ok {
			t.Errorf("%s -> %s: %q, want allowed = %v", c.from, c.to, got, c.ok)
		}
	}
}

func TestFileSizes(t *testing.T) {
	var lines []int
	eachGoFile(t, func(file string, src []byte) {
		n := bytes.Count(src, []byte("\n"))
		lines = append(lines, n)
		if n > 600 {
			t.Errorf("%s has %d lines, at most 600: give its parts files of their own", file, n)
		}
	})
	slices.Sort(lines)
	if half := lines[len(lines)/2]; half > 175 {
		t.Errorf("half of the files have more than %d lines, aim at 150", half)
	}
	if ninth := lines[len(lines)*9/10]; ninth > 350 {
		t.Errorf("one file in ten has more than %d lines, at most 350", ninth)
	}
}

func TestTopLevelFolders(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() || strings.HasPrefix(name, ".") || name == "bin" || name == "docs" {
			continue
		}
		if _, ok := rooms[name]; !ok {
			t.Errorf("folder %s is no room of the house", name)
		}
	}
}

func eachGoFile(t *testing.T, visit func(file string, src []byte)) {
	t.Helper()
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == "testdata" || name == "bin" || p != "." && strings.HasPrefix(name, ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(p), src)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
