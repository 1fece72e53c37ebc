package sandbox

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"holdfast/sandbox/cgroup"
)

// Defaults and bounds of a Spec. A field that is zero gets its default.
const (
	DefaultMemoryBytes = 512 << 20
	DefaultCPUMillis   = 500 // half of one CPU
	DefaultPIDs        = 64

	// MinMemoryBytes leaves room for the sandbox's own init: below it the
	// kernel kills init before the command runs.
	MinMemoryBytes = 4 << 20
	// MinCPUMillis is the kernel's smallest quota: 1 ms in a period of 100 ms.
	MinCPUMillis = 10

	maxCommand = 1024       // strings in Command
	maxEnv     = 1024       // strings in Env
	maxStrings = 96 << 10   // bytes of Command, Env and WorkDir: one socket message
	maxStdin   = 16 << 20   // bytes, held in memory while the attempt runs
	maxMounts  = 64         // each is a descriptor in one message, which carries 253
	maxPath    = 4096       // bytes, the kernel's PATH_MAX
	maxPart    = 255        // bytes of one name in a path, the kernel's NAME_MAX
	maxTarget  = 512        // bytes; every folder on the way is made in the attempt's root,
	maxDepth   = 16         // names in a Target; which holds 2,048
	maxLimit   = 1 << 50    // bytes; catches a negative number cast to unsigned
	maxPIDs    = 4 << 20    // the kernel's PID_MAX_LIMIT
	maxMillis  = 1000 << 12 // 4096 CPUs
)

// Spec says what runs in one sandbox and with what. Nothing is inherited from
// the node: an empty Env is an empty environment.
type Spec struct {
	ID      string   // unique among living sandboxes, [a-z0-9-]{1,64}: names the cgroup
	Command []string // program and arguments; a name without a slash is looked up in PATH of Env
	Env     []string // K=V
	WorkDir string   // absolute; default /tmp, which is private and writable
	Stdin   []byte   // at most 16 MiB; none reads as an empty file
	Mounts  []Mount  // the grants: at most 64
	Scratch *Scratch // nil is none
	Secrets []Secret // files in /run/secrets
	Network Network  // "" is NetworkLoopback
	Limits  Limits
}

// Scratch is a private writable folder, empty at the start and gone at the end.
// It is in memory and charged to the attempt, so MemoryBytes bounds it too.
type Scratch struct {
	Target        string // as of a Mount
	Bytes, Inodes int64  // both bound it
}

// Mount grants one host file or folder. The grant covers one file system: what
// the host has mounted below Source is not part of it.
//
// A writable Source must belong to a user and group other than root, and its
// file system must support idmapped mounts. There is no quota on what the task
// writes there. Inside, the task is that owner; on
// the host the files it makes belong to that owner. A read-only grant shows the
// owner's private files where the file system can map owners, and otherwise
// what everybody may read. Sockets in a grant can be connected to where their
// mode allows, also in a read-only one.
type Mount struct {
	Source   string // absolute host path; symbolic links in it are refused
	Target   string // absolute path inside; system folders and their contents are refused
	Writable bool

	self bool    // Source is this program: for Prove
	off  control // for tests: leave setuid bits in force, say
}

// Limits bounds one attempt. Zero means the default; there is no "unlimited"
// but for times and IO, which are unlimited at zero.
type Limits struct {
	MemoryBytes int64         // memory, swap, /tmp, /dev/shm and what the kernel holds for it; default 512 MiB
	CPUMillis   int64         // thousandths of one CPU; default 500
	PIDs        int64         // processes and threads; default 64
	WallTime    time.Duration // from Start; 0 is none
	CPUTime     time.Duration // of all processes together; 0 is none
	TmpBytes    int64         // size of /tmp; default half of MemoryBytes

	// What is moved to and from each disk; zero is no limit. What the kernel
	// cannot enforce of it is in Result.NotEnforced.
	IOWeight              int64 // 1 to 1000
	IOReadBPS, IOWriteBPS int64 // bytes per second
}

func (l Limits) io() cgroup.IOLimits {
	return cgroup.IOLimits{Weight: l.IOWeight, ReadBPS: l.IOReadBPS, WriteBPS: l.IOWriteBPS}
}

func (l Limits) anyIO() bool { return l.io() != cgroup.IOLimits{} }

// Streams takes the output. A nil writer discards. A writer that blocks slows
// the task down to its pace and never holds up Kill or, for long, Wait.
type Streams struct {
	Stdout, Stderr io.Writer
}

// ErrInvalidSpec is a Spec that no sandbox would run.
type ErrInvalidSpec struct {
	Field  string // for example "Mounts[2].Target"
	Reason string
}

func (e *ErrInvalidSpec) Error() string {
	return fmt.Sprintf("invalid sandbox spec: %s: %s", e.Field, e.Reason)
}

// ErrCannotIsolate is a machine that cannot give the isolation promised: nothing
// was run.
type ErrCannotIsolate struct {
	Ability string // the name in Abilities, for example "cgroup_memory"
	Reason  string
	Remedy  string
}

func (e *ErrCannotIsolate) Error() string {
	return fmt.Sprintf("cannot isolate (%s): %s; %s", e.Ability, e.Reason, e.Remedy)
}

// proof says whether this is one of Prove's own.
func (s Spec) proof() bool {
	return slices.ContainsFunc(s.Mounts, func(m Mount) bool { return m.self })
}

func invalid(field, format string, args ...any) error {
	return &ErrInvalidSpec{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Validate reports the first thing wrong with the spec, as *ErrInvalidSpec.
// It touches no file: sources are opened by Start.
func (s Spec) Validate() error {
	_, err := s.normalize()
	return err
}

// normalize returns the spec with its defaults filled in, or *ErrInvalidSpec.
func (s Spec) normalize() (Spec, error) {
	if err := validID(s.ID); err != nil {
		return s, err
	}
	if err := s.validStrings(); err != nil {
		return s, err
	}
	if s.WorkDir == "" {
		s.WorkDir = "/tmp"
	}
	if err := cleanAbsolute("WorkDir", s.WorkDir); err != nil {
		return s, err
	}
	if len(s.Stdin) > maxStdin {
		return s, invalid("Stdin", "%d bytes, at most %d", len(s.Stdin), maxStdin)
	}
	if err := validMounts(s.Mounts); err != nil {
		return s, err
	}
	if err := s.validScratch(); err != nil {
		return s, err
	}
	if err := s.validSecrets(); err != nil {
		return s, err
	}
	if s.Network == "" {
		s.Network = NetworkLoopback
	}
	if s.Network != NetworkLoopback && s.Network != NetworkNone {
		return s, invalid("Network", "%q, want %s or %s", s.Network, NetworkLoopback, NetworkNone)
	}
	var err error
	s.Limits, err = s.Limits.normalize()
	return s, err
}

func validID(id string) error {
	if id == "" || len(id) > 64 {
		return invalid("ID", "%d characters, want 1 to 64 of a-z, 0-9 and -", len(id))
	}
	for _, r := range id {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return invalid("ID", "has %q, want only a-z, 0-9 and -", r)
		}
	}
	return nil
}

func (s Spec) validStrings() error {
	if len(s.Command) == 0 || s.Command[0] == "" {
		return invalid("Command", "is empty")
	}
	if len(s.Command) > maxCommand {
		return invalid("Command", "%d strings, at most %d", len(s.Command), maxCommand)
	}
	if len(s.Env) > maxEnv {
		return invalid("Env", "%d strings, at most %d", len(s.Env), maxEnv)
	}
	total := len(s.WorkDir)
	for i, a := range s.Command {
		if strings.IndexByte(a, 0) >= 0 {
			return invalid(fmt.Sprintf("Command[%d]", i), "has a NUL byte")
		}
		total += len(a) + 1
	}
	if len(s.Command[0]) >= maxPath {
		return invalid("Command[0]", "%d bytes, at most %d", len(s.Command[0]), maxPath-1)
	}
	for i, e := range s.Env {
		if strings.IndexByte(e, 0) >= 0 {
			return invalid(fmt.Sprintf("Env[%d]", i), "has a NUL byte")
		}
		if strings.IndexByte(e, '=') < 1 {
			return invalid(fmt.Sprintf("Env[%d]", i), "is not of the form KEY=VALUE")
		}
		total += len(e) + 1
	}
	if total > maxStrings {
		return invalid("Command", "Command and Env hold %d bytes, at most %d", total, maxStrings)
	}
	return nil
}

func (l Limits) normalize() (Limits, error) {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.MemoryBytes, DefaultMemoryBytes)
	def(&l.CPUMillis, DefaultCPUMillis)
	def(&l.PIDs, DefaultPIDs)
	if l.MemoryBytes < MinMemoryBytes || l.MemoryBytes > maxLimit {
		return l, invalid("Limits.MemoryBytes", "%d, want %d to %d", l.MemoryBytes, MinMemoryBytes, int64(maxLimit))
	}
	def(&l.TmpBytes, l.MemoryBytes/2)
	if l.TmpBytes < 4096 || l.TmpBytes > maxLimit {
		return l, invalid("Limits.TmpBytes", "%d, want 4096 to %d", l.TmpBytes, int64(maxLimit))
	}
	if l.CPUMillis < MinCPUMillis || l.CPUMillis > maxMillis {
		return l, invalid("Limits.CPUMillis", "%d, want %d to %d", l.CPUMillis, MinCPUMillis, maxMillis)
	}
	if l.PIDs < 1 || l.PIDs > maxPIDs {
		return l, invalid("Limits.PIDs", "%d, want 1 to %d", l.PIDs, maxPIDs)
	}
	if l.IOWeight < 0 || l.IOWeight > 1000 {
		return l, invalid("Limits.IOWeight", "%d, want 0 to 1000", l.IOWeight)
	}
	if l.IOReadBPS < 0 || l.IOWriteBPS < 0 {
		return l, invalid("Limits.IOReadBPS", "%d and IOWriteBPS %d must not be negative", l.IOReadBPS, l.IOWriteBPS)
	}
	if l.WallTime < 0 {
		return l, invalid("Limits.WallTime", "%s is negative", l.WallTime)
	}
	if l.CPUTime < 0 {
		return l, invalid("Limits.CPUTime", "%s is negative", l.CPUTime)
	}
	return l, nil
}

// reserved are the folders that the sandbox fills itself. A grant may be none
// of them nor below one.
var reserved = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/dev", "/proc", "/sys",
}

func validMounts(mounts []Mount) error {
	if len(mounts) > maxMounts {
		return invalid("Mounts", "%d grants, at most %d", len(mounts), maxMounts)
	}
	for i, m := range mounts {
		field := fmt.Sprintf("Mounts[%d]", i)
		if err := cleanAbsolute(field+".Source", m.Source); err != nil {
			return err
		}
		if m.Source == "/" {
			return invalid(field+".Source", "the whole host cannot be granted")
		}
		if err := validTarget(field+".Target", m.Target, mounts[:i]); err != nil {
			return err
		}
	}
	return nil
}

// validTarget checks where something is to be attached, beside the grants
// before it.
func validTarget(field, target string, others []Mount) error {
	if err := cleanAbsolute(field, target); err != nil {
		return err
	}
	if target == "/" || target == "/tmp" {
		return invalid(field, "%s belongs to the sandbox", target)
	}
	if len(target) > maxTarget || strings.Count(target, "/") > maxDepth {
		return invalid(field, "%d bytes and %d names, at most %d and %d", len(target), strings.Count(target, "/"), maxTarget, maxDepth)
	}
	for _, r := range reserved {
		if within(target, r) {
			return invalid(field, "%s would shadow %s, which belongs to the sandbox", target, r)
		}
	}
	for j, o := range others {
		// Nested targets would need a mount point inside another grant.
		if within(target, o.Target) || within(o.Target, target) {
			return invalid(field, "%s and %s of Mounts[%d] overlap", target, o.Target, j)
		}
	}
	return nil
}

func cleanAbsolute(field, p string) error {
	switch {
	case len(p) >= maxPath:
		return invalid(field, "%d bytes, at most %d", len(p), maxPath-1)
	case strings.ContainsFunc(p, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return invalid(field, "%q has a control character", p)
	case !path.IsAbs(p):
		return invalid(field, "%q is not an absolute path", p)
	case slices.ContainsFunc(strings.Split(p, "/"), func(part string) bool { return len(part) > maxPart }):
		return invalid(field, "a name in it is longer than %d bytes", maxPart)
	case path.Clean(p) != p:
		return invalid(field, "%q is not clean, want %q", p, path.Clean(p))
	}
	return nil
}

// within says whether p is dir or below it.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, dir+"/")
}
