package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Prove runs real sandboxes in which this very program tries to get out: to see
// the host's files and processes, to reach listeners on the host, to gain
// rights, to use more memory and processes than granted. If any attempt
// succeeds the machine cannot isolate: Prove returns *ErrCannotIsolate, and so
// does every Start that follows. A node calls it once before it takes tasks.
func (r *Runtime) Prove(ctx context.Context) error {
	if err := r.Check(); err != nil {
		return err
	}
	err := r.proveAll(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	var cannot *ErrCannotIsolate
	if !errors.As(err, &cannot) {
		return err
	}
	r.mu.Lock()
	r.cannot = cannot
	r.mu.Unlock()
	r.log.Error("the isolation failed its proof: no task will run", "reason", cannot.Reason)
	return cannot
}

const (
	proofMemory = 64 << 20 // bytes granted to the prover; it wants four times as much
	proofPIDs   = 24       // Go itself needs some ten threads
)

func (r *Runtime) proveAll(ctx context.Context) error {
	c, closeHost, err := hostTargets()
	if err != nil {
		return err
	}
	defer closeHost()
	res, found, err := r.runProver(ctx, c, Limits{})
	if err != nil {
		return err
	}
	if res.Reason != EndExit || res.ExitCode != 0 {
		return unproven("the prover ended by %s, code %d (%s)", res.Reason, res.ExitCode, res.Message)
	}
	if len(found) > 0 {
		return unproven("a sandbox could %s", strings.Join(found, ", "))
	}
	res, found, err = r.runProver(ctx, challenge{Task: proveMemory, Amount: 4 * proofMemory}, Limits{MemoryBytes: proofMemory})
	if err != nil {
		return err
	}
	if res.Reason != EndOutOfMemory {
		return unproven("a sandbox with %d bytes could %s: ended by %s, code %d", proofMemory, strings.Join(found, ", "), res.Reason, res.ExitCode)
	}
	_, found, err = r.runProver(ctx, challenge{Task: provePIDs, Amount: 4 * proofPIDs}, Limits{PIDs: proofPIDs})
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return unproven("a sandbox with %d processes and threads could %s", proofPIDs, strings.Join(found, ", "))
	}
	return nil
}

func unproven(format string, args ...any) error {
	return &ErrCannotIsolate{Ability: "proof", Reason: fmt.Sprintf(format, args...),
		Remedy: "this machine's kernel or configuration leaks; report it with the kernel's version and run tasks elsewhere"}
}

// hostTargets opens what the prover must not reach.
func hostTargets() (challenge, func(), error) {
	c := challenge{Task: proveWalls, Namespaces: map[string]string{}}
	for _, ns := range namespaces {
		own, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			return c, nil, fmt.Errorf("prove the isolation: %w", err)
		}
		c.Namespaces[ns] = own
	}
	for _, p := range []string{"/root", "/home", "/var", "/boot", "/etc/shadow", "/etc/machine-id", fmt.Sprintf("/proc/%d", os.Getpid())} {
		if _, err := os.Lstat(p); err == nil {
			c.Hidden = append(c.Hidden, p)
		}
	}
	if self, err := os.Executable(); err == nil && !slices.ContainsFunc(reserved, func(dir string) bool { return within(self, dir) }) {
		c.Hidden = append(c.Hidden, filepath.Clean(self))
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return c, nil, fmt.Errorf("prove the isolation: %w", err)
	}
	abstract, err := net.Listen("unix", fmt.Sprintf("@holdfast-proof-%d-%d", os.Getpid(), time.Now().UnixNano()))
	if err != nil {
		tcp.Close()
		return c, nil, fmt.Errorf("prove the isolation: %w", err)
	}
	for _, l := range []net.Listener{tcp, abstract} {
		c.Dial = append(c.Dial, [2]string{l.Addr().Network(), l.Addr().String()})
	}
	return c, func() { tcp.Close(); abstract.Close() }, nil
}

func (r *Runtime) runProver(ctx context.Context, c challenge, lim Limits) (Result, []string, error) {
	input, err := json.Marshal(c)
	if err != nil {
		return Result{}, nil, err
	}
	lim.CPUMillis, lim.WallTime = 1000, startPatience
	spec := Spec{
		ID: "proof-" + c.Task, Command: []string{proverName}, Env: []string{"GOMAXPROCS=1", "GOTRACEBACK=none", "GORACE=atexit_sleep_ms=0", "PATH=/proof"},
		Stdin: input, Limits: lim, Mounts: []Mount{{Source: "/proc/self/exe", Target: "/proof/" + proverName, self: true}},
	}
	var out bytes.Buffer
	s, err := r.Start(ctx, spec, Streams{Stdout: &out})
	if err != nil {
		return Result{}, nil, fmt.Errorf("prove the isolation: %w", err)
	}
	res := s.Wait()
	if err := ctx.Err(); err != nil {
		return res, nil, err
	}
	var found []string
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &found); err != nil {
			return res, nil, unproven("the prover said %q", out.String())
		}
	}
	return res, found, nil
}
