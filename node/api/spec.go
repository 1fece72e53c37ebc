package api

import (
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"holdfast/client"
	"holdfast/fsm"
)

// What a spec takes where it says nothing.
const (
	defaultMemoryBytes = 512 << 20
	defaultCPUMillis   = 500
	defaultPIDs        = 64
	defaultPriority    = 50
	defaultOutput      = 64 << 20
	defaultGrace       = 5 * time.Second
	defaultBackoff     = time.Second
)

// The bounds that the tags of client.TaskSpec publish, and those that tags
// cannot say.
const (
	maxName        = 128
	maxArgs        = 1024
	maxPath        = 4096
	maxMounts      = 64
	maxLabels      = 64
	maxConstraints = 32
	maxValues      = 64
	maxAbilities   = 32
	maxKey         = 128
	maxValue       = 256
	maxEnv         = 1024
	maxCPUMillis   = 1_024_000
	maxMemoryBytes = 1 << 50
	maxPIDs        = 1 << 20
	maxRetries     = 1000
	maxOutput      = 1 << 40 // what a worker keeps is its own, smaller bound
	maxGrace       = time.Hour
)

// faults gathers what is wrong with one spec, up to a readable number.
type faults struct {
	prefix string // as in body.tasks[3].
	list   []client.ProblemField
}

func (f *faults) add(location, format string, args ...any) {
	if len(f.list) < 16 {
		f.list = append(f.list, client.ProblemField{Location: f.prefix + location, Message: fmt.Sprintf(format, args...)})
	}
}

func (f *faults) problem() *problem {
	if len(f.list) == 0 {
		return nil
	}
	p := newProblem(client.CodeInvalid, "see errors")
	p.Errors = f.list
	return p
}

// submission checks a spec and encodes it for the state. Prefix says where the
// spec stands in the request, as in "body.".
func submission(t *client.TaskSpec, prefix string) (fsm.Submission, *problem) {
	f := &faults{prefix: prefix}
	spec := checkedSpec(t, f)
	if p := f.problem(); p != nil {
		return fsm.Submission{}, p
	}
	raw := appendSpec(nil, &spec, appendShape(nil, &spec.Shape))
	if len(raw) > fsm.MaxSpecBytes {
		return fsm.Submission{}, specTooLarge(len(raw))
	}
	return fsm.Submission{Shape: spec.Shape, Spec: raw}, nil
}

func specTooLarge(n int) *problem {
	return newProblem(client.CodeTooLarge,
		"the spec takes %d bytes, at most %d fit, with its stdin: put large input into a file and grant it as a mount", n, fsm.MaxSpecBytes)
}

// checkedSpec checks a spec and fills in what it leaves to defaults. The result is
// of use if there are no faults.
func checkedSpec(t *client.TaskSpec, f *faults) fsm.Spec {
	spec := fsm.Spec{
		Name: t.Name, Command: t.Command, WorkDir: t.WorkDir, Stdin: t.StdinBase64,
		Env: environment(t, f), Mounts: mounts(t, f), Shape: shape(t, f),
		PIDs:             uint32(within(f, "resources.pids", int64(t.Resources.PIDs), defaultPIDs, maxPIDs)),
		OutputLimitBytes: within(f, "output_limit_bytes", t.OutputLimit, defaultOutput, maxOutput),
		KillGrace:        lasting(f, "timeouts.grace", t.Timeouts.Grace, defaultGrace, maxGrace),
		CPUTimeLimit:     lasting(f, "timeouts.cpu", t.Timeouts.CPU, 0, fsm.MaxDuration),
	}
	command(t, f)
	limits(t, &spec, f)
	if t.Stdin != "" {
		if len(t.StdinBase64) > 0 {
			f.add("stdin", "excludes stdin_base64: give one")
		}
		spec.Stdin = []byte(t.Stdin)
	}
	return spec
}

func command(t *client.TaskSpec, f *faults) {
	text(f, "name", t.Name, 0, maxName)
	if n := len(t.Command); n == 0 || n > maxArgs {
		f.add("command", "has %d parts: give the program and its arguments, at most %d parts", n, maxArgs)
	} else if t.Command[0] == "" {
		f.add("command[0]", "is empty: name a program")
	}
	for i, arg := range t.Command {
		if strings.IndexByte(arg, 0) >= 0 {
			f.add(fmt.Sprintf("command[%d]", i), "has a NUL byte, which no argument can hold")
		}
	}
	if t.WorkDir != "" {
		absolute(f, "work_dir", t.WorkDir)
	}
}

func environment(t *client.TaskSpec, f *faults) []string {
	if len(t.Env) > maxEnv {
		f.add("env", "has %d variables, at most %d", len(t.Env), maxEnv)
		return nil
	}
	if len(t.Env) == 0 {
		return nil
	}
	env := make([]string, 0, len(t.Env))
	for _, k := range slices.Sorted(maps.Keys(t.Env)) {
		v := t.Env[k]
		switch {
		case !isName(k):
			f.add("env", "the name %.64q is none: want letters, digits and _, not starting with a digit, at most %d bytes", k, maxKey)
		case strings.IndexByte(v, 0) >= 0:
			f.add("env."+k, "has a NUL byte, which no variable can hold")
		}
		env = append(env, k+"="+v)
	}
	return env
}

// isName reports whether a name is one that every shell and C library takes.
func isName(s string) bool {
	if s == "" || len(s) > maxKey {
		return false
	}
	for i, c := range []byte(s) {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func mounts(t *client.TaskSpec, f *faults) []fsm.Mount {
	if len(t.Mounts) > maxMounts {
		f.add("mounts", "has %d, at most %d", len(t.Mounts), maxMounts)
		return nil
	}
	var list []fsm.Mount
	seen := map[string]bool{}
	for i, m := range t.Mounts {
		at := fmt.Sprintf("mounts[%d].", i)
		if m.Target == "" {
			m.Target = m.Source
		}
		absolute(f, at+"source", m.Source)
		absolute(f, at+"target", m.Target)
		if m.Target == "/" {
			f.add(at+"target", "is /, which is the sandbox's own")
		}
		if seen[m.Target] {
			f.add(at+"target", "%.64q is the target of an earlier mount too", m.Target)
		}
		seen[m.Target] = true
		list = append(list, fsm.Mount{Source: m.Source, Target: m.Target, Writable: m.Writable})
	}
	return list
}

// absolute wants a path with one meaning: what a policy checks must be what
// the sandbox mounts.
func absolute(f *faults, at, p string) {
	switch {
	case len(p) == 0 || p[0] != '/':
		f.add(at, "%.64q is not an absolute path", p)
	case len(p) > maxPath:
		f.add(at, "has %d bytes, at most %d", len(p), maxPath)
	case strings.IndexByte(p, 0) >= 0:
		f.add(at, "has a NUL byte, which no path can hold")
	case path.Clean(p) != p:
		f.add(at, "%.64q has parts that mean nothing or go up: write %.64q", p, path.Clean(p))
	}
}

func shape(t *client.TaskSpec, f *faults) fsm.Shape {
	s := fsm.Shape{
		Priority:     defaultPriority,
		CPUMillis:    uint32(within(f, "resources.cpu_millis", int64(t.Resources.CPUMillis), defaultCPUMillis, maxCPUMillis)),
		MemoryBytes:  uint64(within(f, "resources.memory_bytes", t.Resources.MemoryBytes, defaultMemoryBytes, maxMemoryBytes)),
		QueueTimeout: lasting(f, "timeouts.queue", t.Timeouts.Queue, 0, fsm.MaxDuration),
		RunTimeout:   lasting(f, "timeouts.run", t.Timeouts.Run, 0, fsm.MaxDuration),
		RetryLimit:   uint32(within(f, "retry.limit", int64(t.Retry.Limit), 0, maxRetries)),
	}
	if t.Retry.Limit > 0 || t.Retry.Backoff != 0 {
		s.RetryBackoff = lasting(f, "retry.backoff", t.Retry.Backoff, defaultBackoff, fsm.MaxRetryBackoff)
	}
	if t.Priority != nil {
		s.Priority = uint8(min(max(*t.Priority, 0), 100))
		if int(s.Priority) != *t.Priority {
			f.add("priority", "is %d, want 0 to 100", *t.Priority)
		}
	}
	ok := true
	if t.Placement != "" {
		if s.Placement, ok = numberOf[fsm.Placement](placementNames, t.Placement); !ok {
			f.add("placement", "is %.64q, want spread or pack", t.Placement)
		}
	}
	if t.OnLost != "" {
		if s.OnLost, ok = numberOf[fsm.OnLost](onLostNames, t.OnLost); !ok {
			f.add("on_lost", "is %.64q, want retry or fail", t.OnLost)
		}
	}
	s.Labels = labels(t.Labels, f)
	s.Constraints = constraints(t.Constraints, f)
	s.Abilities = abilities(t.Abilities, f)
	return s
}

func labels(m map[string]string, f *faults) []fsm.Label {
	if len(m) > maxLabels {
		f.add("labels", "has %d, at most %d", len(m), maxLabels)
		return nil
	}
	if len(m) == 0 {
		return nil
	}
	list := make([]fsm.Label, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		text(f, "labels", k, 1, maxKey)
		text(f, "labels."+k, m[k], 0, maxValue)
		list = append(list, fsm.Label{Key: k, Value: m[k]})
	}
	return list
}

func constraints(list []client.Constraint, f *faults) []fsm.Constraint {
	if len(list) > maxConstraints {
		f.add("constraints", "has %d, at most %d", len(list), maxConstraints)
		return nil
	}
	var out []fsm.Constraint
	for i, c := range list {
		at := fmt.Sprintf("constraints[%d].", i)
		text(f, at+"key", c.Key, 1, maxKey)
		op, ok := numberOf[fsm.Operator](operatorNames, c.Op)
		takesValues := op == fsm.In || op == fsm.NotIn
		switch {
		case !ok:
			f.add(at+"op", "is %.64q, want in, not_in, exists or not_exists", c.Op)
		case takesValues && (len(c.Values) == 0 || len(c.Values) > maxValues):
			f.add(at+"values", "has %d, want 1 to %d", len(c.Values), maxValues)
		case !takesValues && len(c.Values) > 0:
			f.add(at+"values", "does not go with %s", c.Op)
		}
		for j, v := range c.Values[:min(len(c.Values), maxValues)] {
			text(f, fmt.Sprintf("%svalues[%d]", at, j), v, 0, maxValue)
		}
		out = append(out, fsm.Constraint{Key: c.Key, Op: op, Values: c.Values})
	}
	return out
}

// abilities are a set: sorted, so that equal sets are equal shapes.
func abilities(list []string, f *faults) []string {
	if len(list) > maxAbilities {
		f.add("abilities", "has %d, at most %d", len(list), maxAbilities)
		return nil
	}
	for i, a := range list {
		text(f, fmt.Sprintf("abilities[%d]", i), a, 1, maxKey)
	}
	return slices.Compact(slices.Sorted(slices.Values(list)))
}

// text bounds a string and refuses control characters, which would garble
// tables and logs.
func text(f *faults, at, s string, least, most int) {
	if len(s) < least || len(s) > most {
		f.add(at, "has %d bytes, want %d to %d", len(s), least, most)
		return
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			f.add(at, "has a control character")
			return
		}
	}
}

// within is v, or the default for zero; out of 0 to most is a fault.
func within(f *faults, at string, v, def, most int64) int64 {
	switch {
	case v == 0:
		return def
	case v < 0 || v > most || v > math.MaxInt64/2:
		f.add(at, "is %d, want 0 to %d", v, most)
		return def
	}
	return v
}

func lasting(f *faults, at string, d client.Duration, def, most time.Duration) time.Duration {
	v := time.Duration(d)
	switch {
	case v == 0:
		return def
	case v < 0 || v > most:
		f.add(at, "is %s, at most %s", v, most)
		return def
	}
	return v
}
