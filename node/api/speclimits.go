package api

import (
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
