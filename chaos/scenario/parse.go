package scenario

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxBytes bounds a scenario's file.
const maxBytes = 1 << 20

// Error says what is wrong with a scenario's file, and where.
type Error struct {
	Line  int    // from 1; 0 if no line is to blame
	Field string // as in schedule[0].fault; empty for the whole file
	Err   error
}

func (e *Error) Error() string {
	var at []string
	if e.Line > 0 {
		at = append(at, fmt.Sprintf("line %d", e.Line))
	}
	if e.Field != "" {
		at = append(at, e.Field)
	}
	return strings.Join(append(at, e.Err.Error()), ": ")
}

func (e *Error) Unwrap() error { return e.Err }

// Parse reads a scenario and puts in its defaults.
func Parse(b []byte) (Scenario, error) {
	s, err := parse(b)
	if err != nil {
		return Scenario{}, fmt.Errorf("read the scenario: %w", err)
	}
	return s, nil
}

func parse(b []byte) (Scenario, error) {
	var s Scenario
	if len(b) > maxBytes {
		return s, fmt.Errorf("it has %d bytes, at most %d", len(b), maxBytes)
	}
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		return s, located(file, err)
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return s, fmt.Errorf("it has %d YAML documents, want one", len(file.Docs))
	}
	if err := yaml.UnmarshalWithOptions(b, &s, yaml.Strict()); err != nil {
		return s, located(file, err)
	}
	s.complete()
	if field, err := s.problem(); err != nil {
		return s, &Error{line(file, field), field, err}
	}
	return s, nil
}

// located turns the library's error into one with a line and a field.
func located(file *ast.File, err error) error {
	var own *Error
	if errors.As(err, &own) { // a value's own
		return own
	}
	var e yaml.Error
	if !errors.As(err, &e) || e.GetToken() == nil {
		return err
	}
	at := e.GetToken().Position.Line
	return &Error{at, fieldOf(file, e.GetToken().Position.Offset, e.GetToken().Value), errors.New(plain(e.GetMessage()))}
}

// goNames are the library's words for Go's types.
var goNames = regexp.MustCompile(`cannot unmarshal (\S+) into Go (?:value of type|struct field \S+ of type) (\S+)`)

func plain(msg string) string { return goNames.ReplaceAllString(msg, "a $1 cannot be a $2") }

// fieldOf is the path of the node whose token begins at offset.
func fieldOf(file *ast.File, offset int, fallback string) string {
	if file == nil {
		return ""
	}
	f := finder{offset: offset}
	for _, d := range file.Docs {
		if d.Body != nil {
			ast.Walk(&f, d.Body)
		}
	}
	if f.path == "" {
		return fallback
	}
	return strings.TrimPrefix(f.path, "$.")
}

type finder struct {
	offset int
	path   string
}

func (f *finder) Visit(n ast.Node) ast.Visitor {
	if t := n.GetToken(); t != nil && t.Position.Offset == f.offset && n.GetPath() != "$" {
		f.path = n.GetPath()
	}
	return f
}

// line is where a field is, or the nearest that holds it; 0 if nowhere.
func line(file *ast.File, field string) int {
	for field != "" {
		p, err := yaml.PathString("$." + field)
		if err == nil {
			if n, err := p.FilterFile(file); err == nil && n.GetToken() != nil {
				return n.GetToken().Position.Line
			}
		}
		i := strings.LastIndexAny(field, ".[")
		field = field[:max(i, 0)]
	}
	return 0
}

// at gives an error of a value its place.
func at(n ast.Node, err error) error {
	if err == nil {
		return nil
	}
	return &Error{n.GetToken().Position.Line, strings.TrimPrefix(n.GetPath(), "$."), err}
}

// text is a scalar's.
func text(n ast.Node) string {
	if s, ok := n.(*ast.StringNode); ok {
		return s.Value
	}
	return n.GetToken().Value
}

// UnmarshalYAML is UnmarshalText with a place in its errors.
func (d *Duration) UnmarshalYAML(n ast.Node) error { return at(n, d.UnmarshalText([]byte(text(n)))) }

// UnmarshalYAML is UnmarshalText with a place in its errors.
func (t *Target) UnmarshalYAML(n ast.Node) error { return at(n, t.UnmarshalText([]byte(text(n)))) }
