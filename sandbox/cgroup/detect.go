package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The controllers this package uses. CPUAcct exists on v1 alone: on v2 every
// group counts its CPU time.
const (
	Memory  = "memory"
	CPU     = "cpu"
	PIDs    = "pids"
	CPUAcct = "cpuacct"
	IO      = "io" // blkio on v1
)

// Required lists the controllers without which limits cannot be enforced.
var Required = []string{Memory, CPU, PIDs}

// Location is where one controller was found.
type Location struct {
	Controller string
	Version    int    // 1 or 2
	Mount      string // mount point of its hierarchy
	Base       string // directory below which our parent group goes
	Leaf       string // v2, delegated: the leaf that the node itself must enter first
}

func (l Location) String() string { return fmt.Sprintf("v%d at %s", l.Version, l.Base) }

// Host is what Detect reads; tests give a made-up one.
type Host struct {
	MountInfo  []byte // /proc/self/mountinfo
	SelfCgroup []byte // /proc/self/cgroup
	// Delegated says whether systemd delegated the directory to us.
	Delegated func(dir string) bool
}

// ReadHost reads the real one.
func ReadHost() (Host, error) {
	mi, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Host{}, fmt.Errorf("find cgroup mounts: %w", err)
	}
	sc, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return Host{}, fmt.Errorf("find own cgroup: %w", err)
	}
	return Host{MountInfo: mi, SelfCgroup: sc, Delegated: delegated}, nil
}

// delegated reads the mark that systemd leaves on a unit with Delegate=yes:
// trusted.delegate on system units, user.delegate (from 251) on user units.
func delegated(dir string) bool {
	var b [1]byte
	for _, name := range []string{"trusted.delegate", "user.delegate"} {
		if n, err := unix.Getxattr(dir, name, b[:]); err == nil && n == 1 && b[0] == '1' {
			return true
		}
	}
	return false
}

// Detect finds every controller it can. A controller that is missing from the
// result is missing on the machine.
func Detect(h Host) map[string]Location {
	found := map[string]Location{}
	v1, v2 := mounts(h.MountInfo)
	for _, m := range v1 {
		for _, c := range []string{Memory, CPU, PIDs, CPUAcct} {
			if slices.Contains(m.options, c) {
				found[c] = Location{Controller: c, Version: 1, Mount: m.point, Base: m.point}
			}
		}
		if slices.Contains(m.options, "blkio") {
			found[IO] = Location{Controller: IO, Version: 1, Mount: m.point, Base: m.point}
		}
	}
	for _, m := range v2 {
		base, leaf := m.point, ""
		switch own := ownV2(h.SelfCgroup, m); {
		case own == "":
		case h.ours(own, m):
			base, leaf = own, filepath.Join(own, "node")
		case filepath.Base(own) == "node" && h.ours(filepath.Dir(own), m):
			// A Runtime of this process entered the leaf before.
			base, leaf = filepath.Dir(own), own
		}
		have, err := os.ReadFile(filepath.Join(base, "cgroup.controllers"))
		if err != nil {
			continue
		}
		for _, c := range strings.Fields(string(have)) {
			if slices.Contains(Required, c) || c == IO {
				found[c] = Location{Controller: c, Version: 2, Mount: m.point, Base: base, Leaf: leaf}
			}
		}
	}
	return found
}

// ours says whether the v2 directory is one that the node may divide, and must
// leave for a leaf: delegated by systemd, or the root that a container sees.
// The machine's true root has no cgroup.type, and may hold processes.
func (h Host) ours(dir string, m mount) bool {
	if dir == m.point {
		_, err := os.Stat(filepath.Join(dir, "cgroup.type"))
		return err == nil
	}
	return h.Delegated != nil && h.Delegated(dir)
}

type mount struct {
	root, point string
	options     []string
}

// mounts returns the cgroup v1 and v2 mounts of a mountinfo file. A line reads
// "36 35 98:0 /root /point options... - fstype source superoptions".
func mounts(info []byte) (v1, v2 []mount) {
	sc := bufio.NewScanner(bytes.NewReader(info))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		left, right, ok := strings.Cut(sc.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 3 {
			continue
		}
		m := mount{root: unescape(l[3]), point: unescape(l[4]), options: strings.Split(r[2], ",")}
		switch r[0] {
		case "cgroup":
			v1 = append(v1, m)
		case "cgroup2":
			v2 = append(v2, m)
		}
	}
	return v1, v2
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// ownV2 returns the directory of this process's own v2 cgroup below m, or "".
func ownV2(self []byte, m mount) string {
	for line := range strings.Lines(string(self)) {
		p, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		rel, err := filepath.Rel(m.root, p)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			return "" // the mount shows another part of the tree (a container's)
		}
		return filepath.Join(m.point, rel)
	}
	return ""
}

// ErrMissing names a controller that limits need and the machine lacks.
type ErrMissing struct{ Controller string }

func (e *ErrMissing) Error() string {
	return fmt.Sprintf("cgroup controller %s is neither in a v1 hierarchy nor offered by v2", e.Controller)
}

// ErrBusy is a parent group that another living node holds.
var ErrBusy = errors.New("the cgroup parent is in use by another living process")
