package selftest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Options say how to run.
type Options struct {
	Module string        // the folder with go.mod
	Only   []string      // names of mutants; empty = all
	Seeds  int           // for each mutant: 10
	Span   time.Duration // simulated time of faults in one run: 60 s
	Out    io.Writer     // progress and the table
}

// Finding is what became of one mutant.
type Finding struct {
	Mutant Mutant
	Found  int            // seeds in which a check noticed it
	Seeds  int            // that were run
	Checks map[string]int // in how many seeds each check noticed it
	First  string         // what was said first
}

// ErrNotFound says that a mutant passed every check.
var ErrNotFound = errors.New("a mutant was not noticed: a check is missing, or its seeds do not reach it")

// Run builds every mutant, runs it, and writes the table. It returns
// ErrNotFound if one was not noticed in any seed.
func Run(ctx context.Context, o Options) ([]Finding, error) {
	if o.Seeds == 0 {
		o.Seeds = 10
	}
	if o.Span == 0 {
		o.Span = time.Minute
	}
	dir, err := os.MkdirTemp("", "holdfast-selftest-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the mutants: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := sound(ctx, o, dir); err != nil {
		return nil, err
	}
	var findings []Finding
	for _, m := range Mutants() {
		if len(o.Only) > 0 && !slices.Contains(o.Only, m.Name) {
			continue
		}
		binary, err := build(ctx, o.Module, dir, m)
		if err != nil {
			return findings, err
		}
		f, err := try(ctx, o, binary, m)
		if err != nil {
			return findings, err
		}
		findings = append(findings, f)
		_, _ = fmt.Fprintf(o.Out, "%-28s found in %d of %d seeds: %s\n", m.Name, f.Found, f.Seeds, f.by())
	}
	if len(findings) == 0 {
		return nil, fmt.Errorf("no mutant is called %s", strings.Join(o.Only, ", "))
	}
	var missed []string
	for _, f := range findings {
		if f.Found == 0 {
			missed = append(missed, f.Mutant.Name)
		}
	}
	if len(missed) > 0 {
		return findings, fmt.Errorf("%w: %s", ErrNotFound, strings.Join(missed, ", "))
	}
	return findings, nil
}

// ErrUnsound says that the product as it is does not pass its own checks, so
// that what they say of mutants means nothing.
var ErrUnsound = errors.New("a check fails without any mutant")

// sound runs the product as it is with the seeds that the mutants will get.
func sound(ctx context.Context, o Options, dir string) error {
	binary, err := build(ctx, o.Module, dir, Mutant{Name: "none"})
	if err != nil {
		return err
	}
	f, err := try(ctx, o, binary, Mutant{Name: "none"})
	if err != nil {
		return err
	}
	if f.Found > 0 {
		return fmt.Errorf("%w, in %d of %d seeds: %s: %s", ErrUnsound, f.Found, f.Seeds, f.by(), f.First)
	}
	_, _ = fmt.Fprintf(o.Out, "%-28s found in %d of %d seeds\n", "(none)", f.Found, f.Seeds)
	return nil
}

// Patch is the mutant's file as it would be.
func (m Mutant) Patch(module string) ([]byte, error) {
	src, err := os.ReadFile(filepath.Join(module, filepath.FromSlash(m.File)))
	if err != nil {
		return nil, fmt.Errorf("mutant %s: %w", m.Name, err)
	}
	if n := bytes.Count(src, []byte(m.Old)); n != 1 {
		return nil, fmt.Errorf("mutant %s: its text is in %s %d times, want once: the safeguard has changed, so change the mutant with it", m.Name, m.File, n)
	}
	return bytes.Replace(src, []byte(m.Old), []byte(m.New), 1), nil
}

// build compiles the simulation with a mutant in place of its file.
func build(ctx context.Context, module, dir string, m Mutant) (string, error) {
	module, err := filepath.Abs(module)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, m.Name+".test")
	args := []string{"test", "-c", "-vet=off", "-o", binary}
	if m.File != "" {
		overlay, err := m.overlay(module, dir)
		if err != nil {
			return "", err
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./node/sim")...)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build mutant %s: %w\n%s", m.Name, err, out)
	}
	return binary, nil
}

// overlay writes the file that puts the mutant in place of the source.
func (m Mutant) overlay(module, dir string) (string, error) {
	src, err := m.Patch(module)
	if err != nil {
		return "", err
	}
	patched, overlay := filepath.Join(dir, m.Name+".go"), filepath.Join(dir, m.Name+".json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(module, filepath.FromSlash(m.File)): patched}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(patched, src, 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		return "", fmt.Errorf("write mutant %s: %w", m.Name, err)
	}
	return overlay, nil
}

// endless is how long a run may take, on a busy machine, before it is one that
// does not end. Usually it takes a second.
const endless = 10 * time.Minute

// try runs a mutant's seeds, each in a process of its own: a mutant may end the
// process, or never end.
func try(ctx context.Context, o Options, binary string, m Mutant) (Finding, error) {
	f := Finding{Mutant: m, Checks: map[string]int{}}
	for seed := 1; seed <= o.Seeds; seed++ {
		cmd := exec.CommandContext(ctx, binary, "-test.run", "^TestSimulation$", "-test.timeout", endless.String(),
			"-sim.seed", fmt.Sprint(seed), "-sim.span", o.Span.String())
		out, err := cmd.CombinedOutput()
		if ctx.Err() != nil {
			return f, ctx.Err()
		}
		f.Seeds++
		if err == nil {
			continue
		}
		checks, first := read(out)
		if len(checks) == 0 {
			return f, fmt.Errorf("mutant %s, seed %d: the simulation failed without a check's word: %w\n%s", m.Name, seed, err, out)
		}
		f.Found++
		for _, c := range checks {
			f.Checks[c]++
		}
		if f.First == "" {
			f.First = first
		}
	}
	return f, nil
}

// problem is a line of the simulation's about a promise that was not kept.
var problem = regexp.MustCompile(`^\s+\S+_test\.go:\d+: ([a-z -]+) at [0-9.a-zµ]+: (.*)$`)

// read takes the checks that noticed something from a run's output.
func read(out []byte) (checks []string, first string) {
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		name, text := "", ""
		switch match := problem.FindStringSubmatch(line); {
		case match != nil:
			name, text = match[1], match[2]
		case strings.HasPrefix(line, "panic: test timed out"):
			name, text = "end", "the run does not end"
		case strings.HasPrefix(line, "panic:"), strings.HasPrefix(line, "fatal error:"):
			name, text = "crash", line
		default:
			continue
		}
		if first == "" {
			first = text
		}
		if !slices.Contains(checks, name) {
			checks = append(checks, name)
		}
	}
	return checks, first
}

// mostNamed keeps a line of the table readable: a lost vote shows everywhere.
const mostNamed = 4

// by names the checks, the one that noticed it most often first.
func (f Finding) by() string {
	var names []string
	for name := range f.Checks {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if f.Checks[a] != f.Checks[b] {
			return f.Checks[b] - f.Checks[a]
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s (%d)", name, f.Checks[name])
	}
	switch n := len(names); {
	case n == 0:
		return "nothing"
	case n > mostNamed:
		names = append(names[:mostNamed], fmt.Sprintf("and %d more", n-mostNamed))
	}
	return strings.Join(names, ", ")
}

// Table is the findings in Markdown.
func Table(findings []Finding) string {
	var b strings.Builder
	b.WriteString("| mutant | what it does not do any more | seeds | found by (seeds) |\n|---|---|---|---|\n")
	for _, f := range findings {
		fmt.Fprintf(&b, "| `%s` | %s | %d of %d | %s |\n", f.Mutant.Name, f.Mutant.Lost, f.Found, f.Seeds, f.by())
	}
	return b.String()
}
