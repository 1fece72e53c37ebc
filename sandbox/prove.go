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
// The Proof says of each check how it ended, also beside an error.
func (r *Runtime) Prove(ctx context.Context) (Proof, error) {
	if err := r.Check(); err != nil {
		reason := "no sandbox can be started"
		if c := (*ErrCannotIsolate)(nil); errors.As(err, &c) {
			reason += ": " + c.Ability
		}
		return newProof(reason), err
	}
	began := time.Now()
	p := newProof("")
	err := r.proveAll(ctx, p)
	p.Took = time.Since(began)
	if err == nil || ctx.Err() != nil {
		return p, err
	}
	var cannot *ErrCannotIsolate
	if !errors.As(err, &cannot) {
		return p, err
	}
	r.mu.Lock()
	r.cannot = cannot
	r.mu.Unlock()
	r.log.Error("the isolation failed its proof: no task will run", "reason", cannot.Reason)
	return p, cannot
}

const (
	proofMemory = 64 << 20 // bytes granted to the prover; it wants four times as much
	proofPIDs   = 24       // Go itself needs some ten threads
)

// proveAll tries everything, also when something got out before.
func (r *Runtime) proveAll(ctx context.Context, p Proof) error {
	c, closeHost, err := r.hostTargets()
	if err != nil {
		return err
	}
	defer closeHost()
	for _, prove := range []func(context.Context, Proof) error{
		func(ctx context.Context, p Proof) error { return r.proveWalls(ctx, c, p) }, r.proveMemory, r.provePIDs,
	} {
		if err := prove(ctx, p); err != nil {
			return err
		}
	}
	var could []string
	for _, c := range p.With(Escaped) {
		could = append(could, c.Detail)
	}
	if len(could) > 0 {
		return unproven("a sandbox could %s", strings.Join(could, ", "))
	}
	return nil
}

func (r *Runtime) proveWalls(ctx context.Context, c challenge, p Proof) error {
	res, found, err := r.runProver(ctx, c, Limits{})
	if err != nil {
		return err
	}
	if res.Reason != EndExit || res.ExitCode != 0 {
		return unproven("the prover ended by %s, code %d (%s)", res.Reason, res.ExitCode, res.Message)
	}
	for _, w := range walls {
		i := slices.IndexFunc(found, func(f finding) bool { return f.Name == w.name })
		switch {
		case i < 0:
			return unproven("the prover said nothing of %s", w.name)
		case len(found[i].Could) > 0:
			p.set(w.name, Escaped, strings.Join(found[i].Could, ", "))
		case found[i].Skipped != "":
			p.set(w.name, NotTried, found[i].Skipped)
		default:
			p.set(w.name, Held, fmt.Sprintf("%d tries", found[i].Tries))
		}
	}
	return nil
}

func (r *Runtime) proveMemory(ctx context.Context, p Proof) error {
	res, _, err := r.runProver(ctx, challenge{Task: proveMemory, Amount: 4 * proofMemory}, Limits{MemoryBytes: proofMemory})
	if err != nil {
		return err
	}
	if res.Reason != EndOutOfMemory {
		p.set(checkMemory, Escaped, fmt.Sprintf("use %d bytes of memory with a limit of %d: ended by %s, code %d", 4*proofMemory, proofMemory, res.Reason, res.ExitCode))
		return nil
	}
	p.set(checkMemory, Held, fmt.Sprintf("killed within %d MiB", proofMemory>>20))
	return nil
}

func (r *Runtime) provePIDs(ctx context.Context, p Proof) error {
	_, found, err := r.runProver(ctx, challenge{Task: provePIDs, Amount: 4 * proofPIDs}, Limits{PIDs: proofPIDs})
	if err != nil {
		return err
	}
	if len(found) > 0 {
		p.set(checkProcesses, Escaped, fmt.Sprintf("%s with a limit of %d", strings.Join(found[0].Could, ", "), proofPIDs))
		return nil
	}
	p.set(checkProcesses, Held, fmt.Sprintf("refused within %d", proofPIDs))
	return nil
}

func unproven(format string, args ...any) error {
	return &ErrCannotIsolate{Ability: "proof", Reason: fmt.Sprintf(format, args...),
		Remedy: "this machine's kernel or configuration leaks; report it with the kernel's version and run tasks elsewhere"}
}

// hostTargets opens what the prover must not reach.
func (r *Runtime) hostTargets() (challenge, func(), error) {
	c := challenge{Task: proveWalls, Namespaces: map[string]string{}, Weaker: r.weaker, CorePiped: r.host.corePiped(), PIDs: []int{os.Getpid(), os.Getppid()}}
	for _, ns := range namespaces {
		if ns == "time" && slices.Contains(r.weaker, abilityTime) {
			continue
		}
		own, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			return c, nil, fmt.Errorf("prove the isolation: %w", err)
		}
		c.Namespaces[ns] = own
	}
	l, err := r.launch()
	if err != nil {
		return c, nil, err
	}
	c.Launcher = map[string]string{}
	for _, ns := range namespaces {
		// Without CAP_SYS_PTRACE a node may not look; the comparison with its own is left.
		if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", l.proc.Pid, ns)); err == nil && ns != "time" {
			c.Launcher[ns] = theirs
		}
	}
	hidden := []string{"/root", "/home", "/var", "/boot", "/sys", "/run", "/etc/shadow", "/etc/machine-id"}
	if pid := os.Getpid(); pid > fewProcesses {
		hidden = append(hidden, fmt.Sprintf("/proc/%d", pid))
	}
	for _, p := range hidden {
		if _, err := os.Lstat(p); err == nil {
			c.Hidden = append(c.Hidden, p)
		}
	}
	if self, err := os.Executable(); err == nil && !slices.ContainsFunc(reserved, func(dir string) bool { return within(self, dir) }) {
		c.Hidden = append(c.Hidden, filepath.Clean(self))
	}
	c.Unreachable = hostAddresses()
	// On the loopback alone: nothing listens where a network could reach it.
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

const (
	// fewProcesses is above the numbers that the prover's own processes have. A
	// node in a container may have such a number too.
	fewProcesses = 64
	// maxAddresses bounds what is dialled on machines with many.
	maxAddresses = 8
)

// hostAddresses are some of the host's that are not loopback.
func hostAddresses() (ips []string) {
	addrs, _ := net.InterfaceAddrs() // none: then the loopback is all there is to try
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && len(ips) < maxAddresses {
			ips = append(ips, n.IP.String())
		}
	}
	return ips
}

// proverEnv is all that the prover's environment may hold.
var proverEnv = []string{"GOMAXPROCS=1", "GOTRACEBACK=none", "GORACE=atexit_sleep_ms=0", "PATH=/proof"}

func (r *Runtime) runProver(ctx context.Context, c challenge, lim Limits) (Result, []finding, error) {
	input, err := json.Marshal(c)
	if err != nil {
		return Result{}, nil, err
	}
	lim.CPUMillis, lim.WallTime = 1000, startPatience
	spec := Spec{
		ID: "proof-" + c.Task, Command: []string{proverName}, Env: proverEnv,
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
	var found []finding
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &found); err != nil {
			return res, nil, unproven("the prover said %.200q", out.String())
		}
	}
	return res, found, nil
}
