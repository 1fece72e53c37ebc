package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Offered finds a controller by its name on v1 and on v2, also one that this
// package sets no limits with.
func Offered(h Host, v1, v2 string) (Location, bool) {
	old, unified := mounts(h.MountInfo)
	for _, m := range old {
		if slices.Contains(m.options, v1) {
			return Location{Controller: v1, Version: 1, Mount: m.point, Base: m.point}, true
		}
	}
	for _, m := range unified {
		have, err := os.ReadFile(filepath.Join(m.point, "cgroup.controllers"))
		if err == nil && slices.Contains(strings.Fields(string(have)), v2) {
			return Location{Controller: v2, Version: 2, Mount: m.point, Base: m.point}, true
		}
	}
	return Location{}, false
}
