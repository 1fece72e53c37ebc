package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ErrNoSource says that the module's source or the go command is not here.
var ErrNoSource = errors.New("the simulation is built from holdfast's source")

// FindModule is the folder of the module's source at or above dir.
func FindModule(dir string) (string, error) {
	from, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for at := from; ; at = filepath.Dir(at) {
		mod, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module holdfast\n") {
			if _, err := exec.LookPath("go"); err != nil {
				return "", fmt.Errorf("%w, which needs the go command: %w", ErrNoSource, err)
			}
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%w, and neither %s nor a folder above it holds that: clone it, and run this there", ErrNoSource, from)
		}
	}
}

// Options say what to run.
type Options struct {
	Module string        // from FindModule
	Seed   uint64        // this one alone, if not 0
	Seeds  int           // so many new ones
	For    time.Duration // or new ones for so long
	Span   time.Duration // simulated time of faults in one run; 0 = 60 s
	Trace  bool          // print everything that happens
	Out    io.Writer
}

// Result is what a run of the driver found.
type Result struct {
	Seeds     int           `json:"seeds"`
	Simulated time.Duration `json:"simulated_ns"`
	Problems  []string      `json:"problems,omitempty"` // as the simulation says them
	Failed    []uint64      `json:"failed_seeds,omitempty"`
}

func (o *Options) flags() []string {
	if o.Span == 0 {
		o.Span = time.Minute
	}
	args := []string{"-test.run", "^TestSimulation$", "-test.v", "-test.timeout", "0", "-sim.span", o.Span.String()}
	switch {
	case o.Seed != 0:
		args = append(args, "-sim.seed", fmt.Sprint(o.Seed), "-sim.v")
	case o.Seeds > 0:
		args = append(args, "-sim.seeds", fmt.Sprint(o.Seeds))
	default:
		args = append(args, "-sim.seconds", fmt.Sprint(max(o.For, time.Second).Seconds()))
	}
	if o.Trace {
		args = append(args, "-sim.trace")
	}
	return args
}

// Run runs the simulation natively.
func Run(ctx context.Context, o Options) (Result, error) {
	dir, err := os.MkdirTemp("", "holdfast-sim-")
	if err != nil {
		return Result{}, fmt.Errorf("make a folder for the test binary: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	test := filepath.Join(dir, "sim.test")
	if err := build(ctx, o.Module, nil, "test", "-c", "-o", test, "./node/sim"); err != nil {
		return Result{}, err
	}
	return run(ctx, o, test, o.flags())
}

// Replay runs one seed exactly as every other replay of it.
func Replay(ctx context.Context, o Options) (Result, error) {
	if o.Seed == 0 {
		return Result{}, errors.New("replay what? name a seed")
	}
	dir, err := os.MkdirTemp("", "holdfast-replay-")
	if err != nil {
		return Result{}, fmt.Errorf("make a folder for the test binary: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	command, err := exact(ctx, o.Module, dir)
	if err != nil {
		return Result{}, err
	}
	return run(ctx, o, command[0], append(command[1:], o.flags()...))
}

// exact builds what replays: a program, and the test as its first argument.
func exact(ctx context.Context, module, dir string) ([]string, error) {
	wasm, program := filepath.Join(dir, "sim.wasm"), filepath.Join(dir, "replay")
	if err := build(ctx, module, []string{"GOOS=wasip1", "GOARCH=wasm"}, "test", "-c", "-vet=off", "-o", wasm, "./node/sim"); err != nil {
		return nil, err
	}
	if err := build(ctx, filepath.Join(module, "chaos", "sim", "replay"), nil, "build", "-o", program, "."); err != nil {
		return nil, err
	}
	return []string{program, wasm}, nil
}

func build(ctx context.Context, dir string, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s in %s: %w\n%s", strings.Join(args, " "), dir, err, out)
	}
	return nil
}

// run lets the test speak for itself, and counts.
func run(ctx context.Context, o Options, program string, args []string) (Result, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = filepath.Join(o.Module, "node", "sim")
	var said lines
	cmd.Stdout = io.MultiWriter(o.Out, &said)
	cmd.Stderr = cmd.Stdout
	err := cmd.Run()
	r := said.result()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return r, ctx.Err()
	case err == nil, errors.As(err, &exit) && len(r.Problems) > 0:
		return r, nil
	case errors.As(err, &exit):
		return r, fmt.Errorf("the simulation ended without a verdict: %w", err)
	}
	return r, fmt.Errorf("run the simulation: %w", err)
}

// lines gathers what the test says of problems and of its end.
type lines struct{ text []byte }

func (l *lines) Write(p []byte) (int, error) {
	l.text = append(l.text, p...)
	return len(p), nil
}

var (
	problemLine = regexp.MustCompile(`(?m)^\s+\S+_test\.go:\d+: ([a-z -]+ at [0-9.a-zµ]+: .*)$`)
	repeatLine  = regexp.MustCompile(`-sim\.seed (\d+) -sim\.span`)
	endLine     = regexp.MustCompile(`(\d+) seeds, (\S+) simulated in`)
)

func (l *lines) result() (r Result) {
	for _, m := range problemLine.FindAllSubmatch(l.text, -1) {
		r.Problems = append(r.Problems, string(m[1]))
	}
	for _, m := range repeatLine.FindAllSubmatch(l.text, -1) {
		if seed, err := strconv.ParseUint(string(m[1]), 10, 64); err == nil {
			r.Failed = append(r.Failed, seed)
		}
	}
	if m := endLine.FindSubmatch(l.text); m != nil {
		r.Seeds, _ = strconv.Atoi(string(m[1]))
		r.Simulated, _ = time.ParseDuration(string(m[2]))
	}
	return r
}
