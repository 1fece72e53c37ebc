package sandbox

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// weakenable are the walls that a machine may lack, if its operator says so for
// each by name. All stand behind another one that is never done without. What
// is not here is refused: user namespaces, seccomp, the limits of memory, CPU
// and processes.
var weakenable = []string{
	abilityLandlock, // behind the read-only mounts
	abilitySwap,     // behind the memory limit, which then counts no swap
	abilityTime,     // hides the machine's uptime
}

// Weakenable lists the names that Config.AllowMissing may have.
func Weakenable() []string { return slices.Clone(weakenable) }

// ValidAllowMissing refuses names that no machine may do without.
func ValidAllowMissing(names []string) error {
	for _, n := range names {
		if !slices.Contains(weakenable, n) {
			return fmt.Errorf("%q cannot be done without: allowed are %s", n, strings.Join(weakenable, ", "))
		}
	}
	return nil
}

// Weaker lists the walls that sandboxes here do without: those that the machine
// lacks and Config.AllowMissing names. It is empty where all are up, whatever
// is allowed.
func (r *Runtime) Weaker() []string { return slices.Clone(r.weaker) }

// weakerEnv tells a launcher what to do without.
const weakerEnv = "HOLDFAST_LAUNCHER_WITHOUT"

// told says whether this launcher is to do without a wall.
func told(name string) bool {
	return slices.Contains(strings.Split(os.Getenv(weakerEnv), ","), name)
}

// weaker lists what is missing and allowed to be.
func (h hostFacts) weaker() (names []string) {
	for _, a := range h.abilities() {
		if a.lacking() && a.Need == NeedExplicit && slices.Contains(h.allow, a.Name) {
			names = append(names, a.Name)
		}
	}
	slices.Sort(names)
	return names
}
