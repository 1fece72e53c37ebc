package sandbox

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// The payload of every benchmark is the smallest static program that exits with
// 0: no libc, one page. What is measured shall be a sandbox's start, and the
// start of a C library hides it: glibc's asks the processor for its features
// again and again, which costs 0.3 to 0.4 ms where a hypervisor answers.
const payloadName = "/usr/bin/true"

// exitZero calls exit_group(0).
var exitZero = map[string][]byte{
	"amd64": {0x31, 0xff, 0xb8, 0xe7, 0, 0, 0, 0x0f, 0x05},
	"arm64": {0, 0, 0x80, 0xd2, 0xc8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4},
}

// payloadProgram is an ELF file of one segment, which holds all of it.
func payloadProgram() []byte {
	const base, head, segment = 0x400000, 64, 56
	code := exitZero[runtime.GOARCH]
	machine := map[string]uint16{"amd64": 62, "arm64": 183}[runtime.GOARCH]
	size := uint64(head + segment + len(code))
	le := binary.LittleEndian
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	b = le.AppendUint16(b, 2) // an executable
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+head+segment) // entry
	b = le.AppendUint64(b, head)              // of the segments
	b = le.AppendUint64(b, 0)                 // no sections
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{head, segment, 1, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1) // PT_LOAD
	b = le.AppendUint32(b, 5) // readable, executable
	for _, v := range []uint64{0, base, base, size, size, 4096} {
		b = le.AppendUint64(b, v)
	}
	return append(b, code...)
}

// payloadRoot makes a folder with the payload for all who take part. It has the
// shape of a distribution's root, so that a sandbox has as much to build.
func payloadRoot(b *testing.B) string {
	b.Helper()
	root, err := os.MkdirTemp("/var/tmp", "holdfast-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(root) })
	err = os.Chmod(root, 0o755)
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc/alternatives"} {
		if err == nil {
			err = os.MkdirAll(filepath.Join(root, dir), 0o755)
		}
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		if err == nil {
			err = os.Symlink("usr/"+link, filepath.Join(root, link))
		}
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "etc/ld.so.cache"), nil, 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(root, payloadName), payloadProgram(), 0o755)
	}
	if err != nil {
		b.Fatal(err)
	}
	return root
}

func payload() Spec { return Spec{Command: []string{payloadName}} }

// benchRuntime shows its sandboxes the payload's root.
func benchRuntime(b *testing.B, warm int) *Runtime {
	b.Helper()
	return runtimeOf(b, Config{Warm: warm, Root: payloadRoot(b)}, 0)
}
