package fsm

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// allowedImports are the packages that cannot make replicas differ. "sync" and
// "time" are further restricted below.
var allowedImports = []string{
	"bufio", "bytes", "cmp", "crypto/sha256", "encoding/binary", "errors", "fmt", "hash", "hash/crc32", "io",
	"slices", "strconv", "strings", "sync", "time", "unicode/utf8", "github.com/fxamacker/cbor/v2",
}

// allowedUses restricts packages to some of their names; deniedUses forbids
// some.
var (
	allowedUses = map[string][]string{
		"sync": {"RWMutex"},
		"time": {"Duration", "Hour", "Minute", "Second", "Millisecond", "Nanosecond"},
	}
	deniedUses = map[string][]string{"fmt": {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"}}
)

type noImports struct{}

func (noImports) Import(path string) (*types.Package, error) {
	p := types.NewPackage(path, filepath.Base(path))
	p.MarkComplete()
	return p, nil
}

// impurities lists what in the files could make two replicas differ: clocks,
// randomness, goroutines, input and output, and the order of maps.
func impurities(fset *token.FileSet, files []*ast.File) []string {
	var found []string
	report := func(n ast.Node, format string, args ...any) {
		p := fset.Position(n.Pos())
		found = append(found, fmt.Sprintf("%s:%d: %s", filepath.Base(p.Filename), p.Line, fmt.Sprintf(format, args...)))
	}
	// Imports resolve to empty packages: maps are recognised by types that
	// are written in this package, and what comes from elsewhere is unknown.
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: noImports{}, Error: func(error) {}}
	conf.Check("fsm", fset, files, info) //nolint: the errors are those of the empty imports
	for _, file := range files {
		packages := map[string]string{}
		for _, imp := range file.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			if !slices.Contains(allowedImports, path) {
				report(imp, "imports %s", path)
			}
			name := filepath.Base(path)
			if imp.Name != nil {
				report(imp, "renames the import %s", path)
			}
			packages[name] = path
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				report(n, "starts a goroutine")
			case *ast.SelectStmt:
				report(n, "selects")
			case *ast.ChanType:
				report(n, "has a channel")
			case *ast.CallExpr:
				if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "print" || id.Name == "println") {
					report(n, "prints")
				}
			case *ast.SelectorExpr:
				id, ok := n.X.(*ast.Ident)
				if !ok || packages[id.Name] == "" {
					break
				}
				if obj := info.Uses[id]; obj != nil {
					if _, isPackage := obj.(*types.PkgName); !isPackage {
						break // a variable of the same name
					}
				}
				if only, ok := allowedUses[id.Name]; ok && !slices.Contains(only, n.Sel.Name) ||
					slices.Contains(deniedUses[id.Name], n.Sel.Name) {
					report(n, "uses %s.%s", id.Name, n.Sel.Name)
				}
			case *ast.RangeStmt:
				if t := info.Types[n.X].Type; t != nil && isMap(t) {
					report(n, "ranges over a map")
				}
			}
			return true
		})
	}
	return found
}

func isMap(t types.Type) bool {
	if p, ok := t.Underlying().(*types.TypeParam); ok {
		t = p.Constraint()
	}
	_, ok := t.Underlying().(*types.Map)
	return ok
}

func parseAll(t *testing.T, pattern string) (*token.FileSet, []*ast.File) {
	t.Helper()
	fset := token.NewFileSet()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return fset, files
}

// guards P9
func TestPackageIsPure(t *testing.T) {
	fset, files := parseAll(t, "*.go")
	if len(files) < 20 {
		t.Fatalf("found %d files: the test looks in the wrong place", len(files))
	}
	for _, problem := range impurities(fset, files) {
		t.Error(problem)
	}
}

// The check finds what it is there for: each line of the fixtures that has a
// want comment, and no other.
func TestPurityCheckFindsImpurities(t *testing.T) {
	want := map[string]string{}
	names, _ := filepath.Glob("testdata/impure/*.go")
	comment := regexp.MustCompile(`// want "(.*)"`)
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if m := comment.FindStringSubmatch(line); m != nil {
				want[fmt.Sprintf("%s:%d", filepath.Base(name), i+1)] = m[1]
			}
		}
	}
	if len(want) < 10 {
		t.Fatalf("only %d expectations in the fixtures", len(want))
	}
	fset, files := parseAll(t, "testdata/impure/*.go")
	for _, got := range impurities(fset, files) {
		place, problem, _ := strings.Cut(got, ": ")
		if want[place] != problem {
			t.Errorf("found %q, want %q there", got, want[place])
		}
		delete(want, place)
	}
	for place, problem := range want {
		t.Errorf("missed %q at %s", problem, place)
	}
}
