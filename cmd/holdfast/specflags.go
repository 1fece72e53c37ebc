package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"holdfast/client"
)

// specFlags are the flags that say what a task is granted.
type specFlags struct {
	name, workDir, onLost, placement, memory, outputLimit string
	onOutputLimit, scratch, network                       string
	ioRead, ioWrite                                       string
	ioWeight                                              int
	secrets                                               []string
	cpuTime                                               time.Duration
	env, labels, mounts, constraints, abilities           []string
	cpuMillis, pids, priority, retries                    int
	queueTimeout, runTimeout, grace, backoff              time.Duration
	stdin                                                 bool
}

func (s *specFlags) add(f *pflag.FlagSet) {
	f.StringVar(&s.name, "name", "", "name, for people and filters")
	f.StringArrayVarP(&s.env, "env", "e", nil, "KEY=value of its environment; KEY alone copies yours (repeat)")
	f.StringArrayVarP(&s.labels, "label", "l", nil, "key=value, for filters (repeat)")
	f.StringVarP(&s.workDir, "work-dir", "w", "", "working folder in the sandbox (default /tmp)")
	f.StringArrayVar(&s.mounts, "mount", nil, "grant a host path: /host[:/target][:rw] (repeat)")
	f.IntVar(&s.cpuMillis, "cpu-millis", 0, "thousandths of a CPU (default 500)")
	f.StringVar(&s.memory, "memory", "", "memory, as in 256MiB or 1GiB (default 512MiB)")
	f.IntVar(&s.pids, "pids", 0, "processes and threads (default 64)")
	f.IntVar(&s.priority, "priority", 50, "0 to 100, higher goes first")
	f.StringArrayVar(&s.constraints, "constraint", nil, "nodes by label: zone=a,b or zone!=a,b or zone or !zone (repeat)")
	f.StringArrayVar(&s.abilities, "ability", nil, "sandbox ability that the node must have (repeat)")
	f.StringVar(&s.placement, "placement", "", "spread or pack (default spread)")
	f.DurationVar(&s.queueTimeout, "queue-timeout", 0, "longest wait for an attempt (default for ever)")
	f.DurationVar(&s.runTimeout, "timeout", 0, "longest run of one attempt (default for ever)")
	f.DurationVar(&s.grace, "grace", 0, "between SIGTERM and SIGKILL (default 5s)")
	f.IntVar(&s.retries, "retry", 0, "further attempts after a failure")
	f.DurationVar(&s.backoff, "retry-backoff", 0, "before the first retry; doubles (default 1s)")
	f.StringVar(&s.onLost, "on-lost", "", "when the worker is lost: retry or fail (default retry)")
	f.StringVar(&s.outputLimit, "output-limit", "", "output kept per attempt (default 64MiB)")
	f.StringVar(&s.onOutputLimit, "on-output-limit", "", "when more comes: truncate or end (default truncate)")
	f.DurationVar(&s.cpuTime, "cpu-time", 0, "most CPU time of one attempt (default no limit)")
	f.StringVar(&s.scratch, "scratch", "", "private writable folder in memory: SIZE or /target:SIZE[:FILES]")
	f.StringArrayVar(&s.secrets, "secret", nil, "NAME=FILE: give the file's bytes as /run/secrets/NAME, shown to nobody (repeat)")
	f.StringVar(&s.network, "network", "", "loopback or none (default loopback)")
	f.IntVar(&s.ioWeight, "io-weight", 0, "part of the disks where tasks compete, 1 to 1000 (default the kernel's, 100)")
	f.StringVar(&s.ioRead, "io-read", "", "bytes per second from each disk, as in 10MiB (default no limit)")
	f.StringVar(&s.ioWrite, "io-write", "", "bytes per second to each disk (default no limit)")
	f.BoolVarP(&s.stdin, "stdin", "i", false, "send this command's standard input, at most 64 KiB with the spec")
}

// maxStdin is below the API's bound for a whole spec.
const maxStdin = 64 << 10

// spec builds the spec of command.
func (s *specFlags) spec(f *pflag.FlagSet, command []string, stdin io.Reader) (client.TaskSpec, error) {
	t := client.TaskSpec{
		Name: s.name, Command: command, WorkDir: s.workDir, OnLost: s.onLost, Placement: s.placement, Abilities: s.abilities,
		Resources: client.Resources{CPUMillis: s.cpuMillis, PIDs: s.pids, IOWeight: s.ioWeight},
		Timeouts:  client.Timeouts{Queue: client.Duration(s.queueTimeout), Run: client.Duration(s.runTimeout), Grace: client.Duration(s.grace), CPU: client.Duration(s.cpuTime)},
		Retry:     client.Retry{Limit: s.retries, Backoff: client.Duration(s.backoff)}, OnOutputLimit: s.onOutputLimit,
	}
	var errs []error
	fail := func(flag string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", flag, err))
		}
	}
	if f.Changed("priority") {
		t.Priority = &s.priority
	}
	var err error
	t.Env, err = parseEnv(s.env)
	fail("env", err)
	t.Labels, err = parseLabels(s.labels)
	fail("label", err)
	for _, m := range s.mounts {
		mount, err := parseMount(m)
		fail("mount", err)
		t.Mounts = append(t.Mounts, mount)
	}
	for _, c := range s.constraints {
		con, err := parseConstraint(c)
		fail("constraint", err)
		t.Constraints = append(t.Constraints, con)
	}
	t.Resources.MemoryBytes, err = parseSize(s.memory)
	fail("memory", err)
	t.OutputLimit, err = parseSize(s.outputLimit)
	fail("output-limit", err)
	t.Scratch, err = parseScratch(s.scratch)
	fail("scratch", err)
	t.Network = s.network
	t.Resources.IOReadBPS, err = parseSize(s.ioRead)
	fail("io-read", err)
	t.Resources.IOWriteBPS, err = parseSize(s.ioWrite)
	fail("io-write", err)
	t.Secrets, err = readSecrets(s.secrets)
	fail("secret", err)
	if len(errs) > 0 {
		return t, usagef("%w", errors.Join(errs...))
	}
	if s.stdin {
		b, err := io.ReadAll(io.LimitReader(stdin, maxStdin+1))
		if err != nil {
			return t, fmt.Errorf("read standard input: %w", err)
		}
		if len(b) > maxStdin {
			return t, usagef("standard input is more than %d bytes; put it into a file and grant that with --mount", maxStdin)
		}
		if utf8.Valid(b) {
			t.Stdin = string(b)
		} else {
			t.StdinBase64 = b
		}
	}
	return t, nil
}

func parseEnv(words []string) (map[string]string, error) {
	if len(words) == 0 {
		return nil, nil
	}
	out := map[string]string{}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			if v, ok = os.LookupEnv(k); !ok {
				return nil, fmt.Errorf("%s is not set here; give %s=value", k, k)
			}
		}
		if k == "" {
			return nil, fmt.Errorf("%q: want KEY=value", w)
		}
		out[k] = v
	}
	return out, nil
}

func parseLabels(words []string) (map[string]string, error) {
	if len(words) == 0 {
		return nil, nil
	}
	out := map[string]string{}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("%q: want key=value", w)
		}
		out[k] = v
	}
	return out, nil
}

// parseMount reads /host[:/target][:ro|:rw].
func parseMount(s string) (client.Mount, error) {
	bad := fmt.Errorf("%q: want /host[:/target][:rw], absolute paths", s)
	parts := strings.Split(s, ":")
	m := client.Mount{Source: parts[0]}
	rest := parts[1:]
	if n := len(rest); n > 0 && (rest[n-1] == "rw" || rest[n-1] == "ro") {
		m.Writable = rest[n-1] == "rw"
		rest = rest[:n-1]
	}
	if len(rest) > 1 || !strings.HasPrefix(m.Source, "/") {
		return m, bad
	}
	if len(rest) == 1 {
		if m.Target = rest[0]; !strings.HasPrefix(m.Target, "/") {
			return m, bad
		}
	}
	return m, nil
}

// parseConstraint reads key=a,b or key!=a,b or key or !key.
func parseConstraint(s string) (client.Constraint, error) {
	key, values, ok := strings.Cut(s, "=")
	c := client.Constraint{Key: key, Op: "in"}
	switch {
	case !ok && strings.HasPrefix(s, "!"):
		c.Key, c.Op = s[1:], "not_exists"
	case !ok:
		c.Op = "exists"
	case strings.HasSuffix(key, "!"):
		c.Key, c.Op = key[:len(key)-1], "not_in"
	}
	if ok {
		c.Values = strings.Split(values, ",")
	}
	if c.Key == "" || ok && values == "" {
		return c, fmt.Errorf("%q: want zone=a,b or zone!=a,b or zone or !zone", s)
	}
	return c, nil
}

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", 1 << 40}, {"B", 1},
}

// parseSize reads bytes with an optional unit; empty is 0, the default.
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	num, unit := s, int64(1)
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(s, u.suffix); ok {
			num, unit = n, u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
	if err != nil || !(n > 0) || n*float64(unit) > 1<<60 {
		return 0, fmt.Errorf("%q: want a size such as 256MiB or 1GiB", s)
	}
	return int64(n * float64(unit)), nil
}
