package sandbox

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/isolation.md shows every threat with its test and with what the test's
// twins do without. This keeps it from saying what is not so.

// controlWords are what the page calls what can be switched off.
var controlWords = map[string]string{
	"ctlNet": "network namespace", "ctlReadOnly": "read-only root", "ctlCaps": "no capabilities", "ctlNoNewPrivs": "no_new_privs",
	"ctlSeccomp": "seccomp", "ctlUser": "own user", "ctlMask": "covered /proc", "ctlNested": "no user namespaces below",
	"ctlLandlock": "Landlock", "ctlCgroups": "cgroup limits", "ctlGrants": "read-only grants", "ctlNoSuid": "nosuid grants",
	"ctlLimits": "resource limits", "ctlDump": "undumpable init", "ctlPID": "pid namespace", "ctlIPC": "ipc namespace",
	"ctlEnter": "cgroups", "ctlTmp": "bounds of folders", "ctlFDs": "closed descriptors", "ctlNoDev": "nodev grants",
	"ctlLinks": "no links in sources", "ctlHost": "dropped host tree", "ctlSelf": "read-only program",
	"ctlCheck": "check of the spec",
	// Other names that stand for the lack of something.
	"onHost": "any sandbox", "onTerminal": "any sandbox", "bareCommand": "any sandbox", "takesEverything": "reader that waits",
}

// testSource is what the package's tests declare: each name with the names that
// it uses.
func testSource(t *testing.T) map[string]map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	uses := map[string]map[string]bool{}
	note := func(name string, n ast.Node) {
		if uses[name] == nil {
			uses[name] = map[string]bool{}
		}
		ast.Inspect(n, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				uses[name][id.Name] = true
			}
			return true
		})
	}
	for _, f := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				name := d.Name.Name
				if d.Recv != nil { // a method's own name says little
					id, _ := d.Recv.List[0].Type.(*ast.Ident)
					if id == nil {
						continue
					}
					name = id.Name
				}
				if d.Body != nil {
					note(name, d.Body)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if v, ok := s.(*ast.ValueSpec); ok {
						for i, n := range v.Names {
							if i < len(v.Values) {
								note(n.Name, v.Values[i])
							}
						}
					}
				}
			}
		}
	}
	return uses
}

// switchedOff lists what a test does without in its twins.
func switchedOff(uses map[string]map[string]bool, test string) (words []string) {
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		for n := range uses[name] {
			if w := controlWords[n]; w != "" && !slices.Contains(words, w) {
				words = append(words, w)
			}
			// The probes, found by their tables of names, are in every test's reach and
			// switch nothing off.
			if uses[n] != nil && n != "probes" && n != "attackProbes" && n != "controlWords" {
				visit(n)
			}
		}
	}
	visit(test)
	slices.Sort(words)
	return words
}

var rowRE = regexp.MustCompile("^\\| (.+) \\| (.+) \\| `(Test\\w+)` \\| (.+) \\|$")

func TestIsolationPage(t *testing.T) {
	page, err := os.ReadFile("../docs/isolation.md")
	if err != nil {
		t.Fatal(err)
	}
	uses := testSource(t)
	onPage := map[string]bool{}
	for l := range strings.Lines(string(page)) {
		m := rowRE.FindStringSubmatch(strings.TrimSpace(l))
		if m == nil {
			continue
		}
		test, without := m[3], m[4]
		if onPage[test] {
			t.Errorf("%s is on the page twice", test)
		}
		onPage[test] = true
		if uses[test] == nil {
			t.Errorf("the page names %s, which is not here", test)
			continue
		}
		said := strings.Split(without, ", ")
		slices.Sort(said)
		if off := switchedOff(uses, test); !slices.Equal(off, said) {
			t.Errorf("the page says of %s that it runs without %q, want %q", test, said, off)
		}
	}
	for test := range uses {
		if strings.HasPrefix(test, "TestAttack") && !onPage[test] {
			t.Errorf("%s is not on the page: without %s", test, strings.Join(switchedOff(uses, test), ", "))
		}
	}
	used := map[string]bool{}
	for name, names := range uses {
		if name != "controlWords" {
			maps.Copy(used, names)
		}
	}
	for c := range controlWords {
		if !used[c] {
			t.Errorf("no test does without %s", c)
		}
	}
	script, err := os.ReadFile("script.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range regexp.MustCompile(`\bctl[A-Z]\w*`).FindAllString(string(script), -1) {
		if controlWords[c] == "" {
			t.Errorf("the page has no word for %s", c)
		}
	}
}
