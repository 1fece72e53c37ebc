// Command replay runs the simulation's test, built for wasip1, in a world
// without chance: one thread, clocks that count calls, and a source of
// randomness that always says the same. So a seed gives the same run every
// time, which it does not natively, where the scheduler has a say.
//
// It is a module of its own so that nobody who uses holdfast pays for wazero.
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: replay TEST.wasm [test flags]")
		os.Exit(3)
	}
	code, err := run(context.Background(), os.Args[1], os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
	}
	os.Exit(code)
}

func run(ctx context.Context, path string, args []string) (int, error) {
	wasm, err := os.ReadFile(path)
	if err != nil {
		return 3, fmt.Errorf("read the test: %w", err)
	}
	r := wazero.NewRuntime(ctx)
	defer func() { _ = r.Close(ctx) }()
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	// No clock of the host's: wazero's own are fake and count calls.
	var fixed [32]byte
	conf := wazero.NewModuleConfig().WithArgs(args...).WithStdout(os.Stdout).WithStderr(os.Stderr).
		WithRandSource(rand.NewChaCha8(fixed)).WithFSConfig(wazero.NewFSConfig().WithReadOnlyDirMount(".", "/")).
		WithEnv("PWD", "/")
	_, err = r.InstantiateWithConfig(ctx, wasm, conf)
	var exit *sys.ExitError
	if errors.As(err, &exit) {
		return int(exit.ExitCode()), nil
	}
	if err != nil {
		return 3, fmt.Errorf("run the test: %w", err)
	}
	return 0, nil
}
