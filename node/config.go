package node

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"holdfast/fsm"
	"holdfast/sandbox"
)

// DefaultPort is the one UDP and TCP port of a node.
const DefaultPort = 7700

// maxConfigBytes bounds the configuration file: it is a page, not a database.
const maxConfigBytes = 1 << 20

// Config is what one node is told. The zero value of a field takes the
// default that Defaults documents.
type Config struct {
	// Data is the node's folder: identity, keys, log, snapshots and outputs.
	Data string `yaml:"data"`
	// Name is for people; the host name by default.
	Name string `yaml:"name"`
	// Listen is the host:port for node traffic (UDP) and clients (TCP).
	Listen string `yaml:"listen"`
	// Advertise is the host:port at which others reach this node; Listen's by
	// default, if that names one address.
	Advertise string `yaml:"advertise"`
	// Peers are addresses of other nodes to look for when every address that
	// the node remembers has changed.
	Peers []string `yaml:"peers"`
	// Labels are matched by tasks' constraints.
	Labels map[string]string `yaml:"labels"`
	// CPUMillis and MemoryBytes are what tasks may use together; what the
	// process may use itself by default. -1 takes no tasks.
	CPUMillis   int64 `yaml:"cpu_millis"`
	MemoryBytes int64 `yaml:"memory_bytes"`
	// OutputBytes bounds the folder of task outputs.
	OutputBytes int64 `yaml:"output_bytes"`
	// Log is how the node speaks.
	Log LogConfig `yaml:"log"`
	// Drain is how long a stopping node lets running tasks finish.
	Drain Duration `yaml:"drain"`
	// Lease is how long a silent worker keeps its attempts.
	Lease Duration `yaml:"lease"`
	// StallLimit is how long one write of the log may take before a
	// leader gives up its office. A follower waits longer (followerStall).
	StallLimit Duration `yaml:"stall_limit"`
	// Voters is how many nodes vote at most; odd.
	Voters int `yaml:"voters"`
	// Stable is how long a new node must be healthy before it may vote.
	Stable Duration `yaml:"stable"`
	// QueueBound bounds queued and running tasks; set at init.
	QueueBound uint64 `yaml:"queue_bound"`
	// Raft are the timers; leave them alone unless measured.
	Raft RaftConfig `yaml:"raft"`
	// Cgroup names the parent of the sandboxes' cgroups; the node's ID by
	// default, because several nodes may share a host.
	Cgroup string `yaml:"cgroup"`
	// Sandbox is how this node runs attempts.
	Sandbox SandboxConfig `yaml:"sandbox"`
}

// SandboxConfig is how a node runs attempts.
type SandboxConfig struct {
	// AllowMissing names walls that this host may lack. Without it a host that
	// lacks one runs no task; with it, every result there says so.
	AllowMissing []string `yaml:"allow_missing"`
	// WarmMax is how many sandboxes are kept ready at most, when many tasks
	// start at a time; by default from the cores and the memory. -1 keeps none.
	WarmMax int `yaml:"warm_max"`
	// Root is a folder whose system folders tasks see in place of the host's.
	Root string `yaml:"root"`
}

// LogConfig is how the node speaks.
type LogConfig struct {
	Level  string `yaml:"level"`  // trace, debug, info, warn, error
	Format string `yaml:"format"` // text or json
	File   string `yaml:"file"`   // standard error by default
	MaxMiB int    `yaml:"max_mib"`
	Keep   int    `yaml:"keep"`
}

// RaftConfig are the timers of elections.
type RaftConfig struct {
	Heartbeat Duration `yaml:"heartbeat"`
	Election  Duration `yaml:"election"`
	Lease     Duration `yaml:"leader_lease"`
}

// Duration is a time.Duration written as in "90s".
type Duration time.Duration

// UnmarshalText reads a Go duration string.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q: want a duration such as 90s or 1h30m", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes a Go duration string.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Defaults is the configuration of a node that was told nothing.
func Defaults() Config {
	name, err := os.Hostname()
	if err != nil {
		name = "node"
	}
	return Config{
		Data:        "/var/lib/holdfast",
		Name:        name,
		Listen:      net.JoinHostPort("127.0.0.1", strconv.Itoa(DefaultPort)),
		OutputBytes: 10 << 30,
		Log:         LogConfig{Level: "info", Format: "text", MaxMiB: 64, Keep: 5},
		Drain:       Duration(30 * time.Second),
		Lease:       Duration(3 * time.Second),
		StallLimit:  Duration(2 * time.Second),
		Voters:      5,
		Stable:      Duration(10 * time.Second),
		QueueBound:  1_000_000,
		// The soak of the benchmarks keeps checking these: shorter timers saw
		// false elections beside full CPU load.
		Raft: RaftConfig{
			Heartbeat: Duration(400 * time.Millisecond),
			Election:  Duration(400 * time.Millisecond),
			Lease:     Duration(400 * time.Millisecond),
		},
	}
}

// ReadConfig reads a configuration file over the defaults. Unknown keys are
// errors: a mistyped limit must not pass in silence.
func ReadConfig(path string) (Config, error) {
	c := Defaults()
	info, err := os.Stat(path)
	if err != nil {
		return c, fmt.Errorf("read configuration: %w", err)
	}
	if info.Size() > maxConfigBytes {
		return c, fmt.Errorf("read configuration %s: %d bytes, at most %d", path, info.Size(), maxConfigBytes)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("read configuration: %w", err)
	}
	if len(strings.TrimSpace(string(b))) == 0 {
		return c, nil
	}
	if err := yaml.UnmarshalWithOptions(b, &c, yaml.Strict()); err != nil {
		return c, fmt.Errorf("configuration %s: %s", path, yaml.FormatError(err, false, true))
	}
	return c, nil
}

// FromEnv overrides c by HOLDFAST_ variables, one per line of the file:
// HOLDFAST_LISTEN, HOLDFAST_LOG_LEVEL and so on.
func (c *Config) FromEnv(lookup func(string) (string, bool)) error {
	var errs []error
	text := func(name string, to *string) {
		if v, ok := lookup("HOLDFAST_" + name); ok {
			*to = v
		}
	}
	number := func(name string, set func(int64)) {
		v, ok := lookup("HOLDFAST_" + name)
		if !ok {
			return
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			errs = append(errs, fmt.Errorf("HOLDFAST_%s: %q is not a whole number", name, v))
			return
		}
		set(n)
	}
	duration := func(name string, to *Duration) {
		if v, ok := lookup("HOLDFAST_" + name); ok {
			if err := to.UnmarshalText([]byte(v)); err != nil {
				errs = append(errs, fmt.Errorf("HOLDFAST_%s: %w", name, err))
			}
		}
	}
	text("DATA", &c.Data)
	text("NAME", &c.Name)
	text("LISTEN", &c.Listen)
	text("ADVERTISE", &c.Advertise)
	text("CGROUP", &c.Cgroup)
	text("SANDBOX_ROOT", &c.Sandbox.Root)
	text("LOG_LEVEL", &c.Log.Level)
	text("LOG_FORMAT", &c.Log.Format)
	text("LOG_FILE", &c.Log.File)
	if v, ok := lookup("HOLDFAST_PEERS"); ok {
		c.Peers = strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
	}
	if v, ok := lookup("HOLDFAST_LABELS"); ok {
		labels, err := ParseLabels(strings.FieldsFunc(v, func(r rune) bool { return r == ',' }))
		if err != nil {
			errs = append(errs, fmt.Errorf("HOLDFAST_LABELS: %w", err))
		}
		c.Labels = labels
	}
	number("CPU_MILLIS", func(n int64) { c.CPUMillis = n })
	number("MEMORY_BYTES", func(n int64) { c.MemoryBytes = n })
	number("OUTPUT_BYTES", func(n int64) { c.OutputBytes = n })
	number("SANDBOX_WARM_MAX", func(n int64) { c.Sandbox.WarmMax = int(n) })
	number("VOTERS", func(n int64) { c.Voters = int(n) })
	duration("DRAIN", &c.Drain)
	duration("LEASE", &c.Lease)
	duration("STALL_LIMIT", &c.StallLimit)
	duration("STABLE", &c.Stable)
	if v, ok := lookup("HOLDFAST_SANDBOX_ALLOW_MISSING"); ok {
		c.Sandbox.AllowMissing = strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
	}
	return errors.Join(errs...)
}

// ParseLabels reads key=value words.
func ParseLabels(words []string) (map[string]string, error) {
	out := make(map[string]string, len(words))
	for _, w := range words {
		k, v, ok := strings.Cut(strings.TrimSpace(w), "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("label %q: want key=value", w)
		}
		out[k] = v
	}
	return out, nil
}

// Validate names everything that is wrong, each with its remedy.
func (c *Config) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if !filepath.IsAbs(c.Data) {
		bad("data", "%q is not an absolute path", c.Data)
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		bad("listen", "%q: want host:port, as in 127.0.0.1:%d", c.Listen, DefaultPort)
	} else if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		bad("listen", "port %q is not a number from 0 to 65535", port)
	} else if n == 0 && c.Advertise != "" {
		bad("listen", "port 0 takes any free port, so advertise must be left empty")
	}
	if c.Advertise == "" && err == nil && unspecified(host) {
		bad("advertise", "listen %q is every address of this host: say at which one the others reach it", c.Listen)
	}
	if c.Advertise != "" {
		if h, p, err := net.SplitHostPort(c.Advertise); err != nil || unspecified(h) || p == "0" {
			bad("advertise", "%q: want an address and port that other nodes can reach", c.Advertise)
		}
	}
	for _, p := range c.Peers {
		if _, _, err := net.SplitHostPort(p); err != nil {
			bad("peers", "%q: want host:port", p)
		}
	}
	if len(c.Name) > 128 {
		bad("name", "%d bytes, at most 128", len(c.Name))
	}
	if !slices.Contains([]string{"trace", "debug", "info", "warn", "error"}, c.Log.Level) {
		bad("log.level", "%q: want trace, debug, info, warn or error", c.Log.Level)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		bad("log.format", "%q: want text or json", c.Log.Format)
	}
	if c.Voters < 1 || c.Voters > 9 || c.Voters%2 == 0 {
		bad("voters", "%d: want an odd number from 1 to 9", c.Voters)
	}
	if c.CPUMillis < -1 || c.MemoryBytes < -1 || c.OutputBytes < 0 {
		bad("cpu_millis, memory_bytes, output_bytes", "must not be negative (-1 takes no tasks)")
	}
	if max := int64(runtime.NumCPU()) * 64_000; c.CPUMillis > max {
		bad("cpu_millis", "%d is more than 64 times what this host has", c.CPUMillis)
	}
	if d := time.Duration(c.Lease); d < 500*time.Millisecond || d >= fsm.RemoveGrace {
		// Longer, and a removed worker could still run what another was given.
		bad("lease", "%v: want 500ms to less than %v", d, fsm.RemoveGrace)
	}
	if d := time.Duration(c.Drain); d < 0 || d > 24*time.Hour {
		bad("drain", "%v: want 0s to 24h", d)
	}
	if d := time.Duration(c.StallLimit); d < 100*time.Millisecond {
		bad("stall_limit", "%v: at least 100ms", d)
	}
	if d := time.Duration(c.Stable); d < 10*time.Millisecond || d > time.Hour {
		bad("stable", "%v: want 10ms to 1h", d)
	}
	hb, el, le := time.Duration(c.Raft.Heartbeat), time.Duration(c.Raft.Election), time.Duration(c.Raft.Lease)
	if hb < 5*time.Millisecond || el < hb || le > hb || le < 5*time.Millisecond {
		bad("raft", "heartbeat %v, election %v, leader_lease %v: want 5ms or more, election not below and leader_lease not above heartbeat", hb, el, le)
	}
	if w := c.Sandbox.WarmMax; w < -1 || w > maxWarm {
		bad("sandbox.warm_max", "%d: want -1 (none) to %d, 0 for the default", w, maxWarm)
	}
	if r := c.Sandbox.Root; r != "" && !filepath.IsAbs(r) {
		bad("sandbox.root", "%q is not an absolute path", r)
	}
	if !validCgroup(c.Cgroup) {
		bad("cgroup", "%q: want lower-case letters, digits and - only", c.Cgroup)
	}
	if err := sandbox.ValidAllowMissing(c.Sandbox.AllowMissing); err != nil {
		bad("sandbox.allow_missing", "%v", err)
	}
	return errors.Join(errs...)
}

func unspecified(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

func validCgroup(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return len(s) <= 64
}
