package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// class is what all sandboxes of one launcher share: the launcher builds it
// once. Today a node has one, and the class of the network is each init's own;
// images, and interpreters that were started beforehand, would be further
// classes, with a launcher each.
type class struct {
	root string // folder of the host whose system folders are shown; "" is the host's own

	off control // of a test, for the launcher itself
}

// rootVariable tells a launcher its class, and offVariable what a test of this
// package switched off. The node alone writes them.
const (
	rootVariable = "HOLDFAST_SANDBOX_ROOT"
	offVariable  = "HOLDFAST_SANDBOX_OFF"
)

func (c class) environment() []string {
	env := []string{rootVariable + "=" + c.root}
	if c.off != 0 {
		env = append(env, fmt.Sprintf("%s=%d", offVariable, c.off))
	}
	return env
}

func classOfEnvironment() class {
	off, _ := strconv.ParseUint(os.Getenv(offVariable), 10, 32)
	return class{root: os.Getenv(rootVariable), off: control(off)}
}

// validate looks at the folder, for a clear word at the start of a node.
func (c class) validate() error {
	if c.root == "" {
		return nil
	}
	if !filepath.IsAbs(c.root) || filepath.Clean(c.root) != c.root || c.root == "/" {
		return fmt.Errorf("sandbox configuration: Root %q: want the absolute path of a folder other than /", c.root)
	}
	for _, dir := range []string{"usr", "bin"} {
		if st, err := os.Stat(filepath.Join(c.root, dir)); err == nil && st.IsDir() {
			return c.open()
		}
	}
	return fmt.Errorf("sandbox configuration: Root %s has neither usr nor bin: want a folder with the system folders of a distribution", c.root)
}

// open says whether the launcher, which is nobody on this host, will reach it.
func (c class) open() error {
	for dir := c.root; dir != "/"; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return fmt.Errorf("sandbox configuration: Root: look at %s: %w", dir, err)
		}
		if st.Mode&0o001 == 0 {
			return fmt.Errorf("sandbox configuration: Root %s: others may not enter %s, and sandboxes are others (chmod o+x)", c.root, dir)
		}
	}
	return nil
}
