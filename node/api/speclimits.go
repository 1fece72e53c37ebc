package api

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/client"
	"holdfast/fsm"
)

const (
	defaultScratch  = "/scratch"
	maxScratch      = 512 // bytes of its target, as the sandbox takes
	minScratchBytes = 64 << 10
	scratchPerInode = 16 << 10
	minScratchFiles = 64
	maxScratchFiles = 1 << 20
)

// limits fills in what an attempt may do beside its resources.
func limits(t *client.TaskSpec, spec *fsm.Spec, f *faults) {
	ok := true
	if t.OnOutputLimit != "" {
		if spec.OnOutputLimit, ok = numberOf[fsm.OnOutputLimit](outputNames, t.OnOutputLimit); !ok {
			f.add("on_output_limit", "is %.64q, want truncate or end", t.OnOutputLimit)
		}
	}
	if t.Scratch != nil {
		spec.Scratch = scratch(t, spec, f)
	}
	io := fsm.IOLimits{
		Weight:   uint32(within(f, "resources.io_weight", int64(t.Resources.IOWeight), 0, maxIOWeight)),
		ReadBPS:  diskRate(f, "resources.io_read_bps", t.Resources.IOReadBPS),
		WriteBPS: diskRate(f, "resources.io_write_bps", t.Resources.IOWriteBPS),
	}
	if io != (fsm.IOLimits{}) {
		spec.IO = &io
	}
	if t.Network != "" {
		if spec.Network, ok = numberOf[fsm.Network](networkNames, t.Network); !ok {
			f.add("network", "is %.64q, want loopback or none", t.Network)
		}
	}
	if len(t.Secrets) > 0 {
		spec.Secrets = secrets(t, spec, f)
	}
}

const (
	maxIOWeight = 1000
	// minIORate keeps a task that waits for a disk from taking minutes to die:
	// such a wait cannot be interrupted.
	minIORate = 1 << 20
	maxIORate = 1 << 50
)

func diskRate(f *faults, at string, v int64) int64 {
	if v > 0 && v < minIORate {
		f.add(at, "is %d, want 0 (no limit) or at least %d", v, minIORate)
	}
	return within(f, at, v, 0, maxIORate)
}

const (
	maxSecrets     = 16
	maxSecretName  = 64
	maxSecretBytes = 16 << 10
	secretsFolder  = "/run/secrets"
)

// secrets never quotes a value: faults go to logs and screens.
func secrets(t *client.TaskSpec, spec *fsm.Spec, f *faults) []fsm.Secret {
	if len(t.Secrets) > maxSecrets {
		f.add("secrets", "has %d, at most %d", len(t.Secrets), maxSecrets)
		return nil
	}
	targets := []string{}
	for _, m := range spec.Mounts {
		targets = append(targets, m.Target)
	}
	if spec.Scratch != nil {
		targets = append(targets, spec.Scratch.Target)
	}
	for _, p := range targets {
		if p == "/run" || p == secretsFolder || strings.HasPrefix(p, secretsFolder+"/") {
			f.add("secrets", "are in %s, which is the place of a mount or the scratch folder too", secretsFolder)
		}
	}
	list := make([]fsm.Secret, 0, len(t.Secrets))
	for i, x := range t.Secrets {
		at := fmt.Sprintf("secrets[%d].", i)
		if !isSecretName(x.Name) {
			f.add(at+"name", "%.64q is none: want letters, digits, _, - and ., not starting with - or ., at most %d bytes", x.Name, maxSecretName)
		}
		s := fsm.Secret{Name: x.Name, Value: x.ValueBase64}
		if x.Value != "" {
			if len(x.ValueBase64) > 0 {
				f.add(at+"value", "excludes value_base64: give one")
			}
			s.Value = []byte(x.Value)
		}
		switch {
		case len(s.Value) == 0:
			f.add(at+"value", "is empty: what get shows of a task has no values; give them again")
		case len(s.Value) > maxSecretBytes:
			f.add(at+"value", "has %d bytes, at most %d", len(s.Value), maxSecretBytes)
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b fsm.Secret) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(list); i++ {
		if list[i].Name == list[i-1].Name {
			f.add("secrets", "has two with the name %.64q", list[i].Name)
		}
	}
	return list
}

func isSecretName(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case c == '_', '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && (c == '.' || c == '-'):
		default:
			return false
		}
	}
	return s != "" && len(s) <= maxSecretName
}

// scratch spells out a folder. It is in memory, so that more than the memory
// could never be used.
func scratch(t *client.TaskSpec, spec *fsm.Spec, f *faults) *fsm.Scratch {
	s := &fsm.Scratch{Target: t.Scratch.Target}
	if s.Target == "" {
		s.Target = defaultScratch
	}
	absolute(f, "scratch.target", s.Target)
	if len(s.Target) > maxScratch {
		f.add("scratch.target", "has %d bytes, at most %d", len(s.Target), maxScratch)
	}
	for _, m := range spec.Mounts {
		if m.Target == s.Target {
			f.add("scratch.target", "%.64q is the target of a mount too", s.Target)
		}
	}
	memory := int64(spec.Shape.MemoryBytes)
	s.Bytes = within(f, "scratch.bytes", t.Scratch.Bytes, max(memory/2, minScratchBytes), memory)
	if s.Bytes < minScratchBytes {
		f.add("scratch.bytes", "is %d, want at least %d", s.Bytes, minScratchBytes)
	}
	files := min(max(s.Bytes/scratchPerInode, minScratchFiles), maxScratchFiles)
	s.Inodes = uint32(within(f, "scratch.inodes", int64(t.Scratch.Inodes), files, maxScratchFiles))
	return s
}
