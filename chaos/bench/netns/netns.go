package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// dir is where iproute2 keeps named namespaces.
const dir = "/run/netns"

const prefix = "hfbench"

// Network is a hub and a number of hosts, each a namespace.
type Network struct {
	name  string
	hosts int
}

// New makes the namespaces: host i has 10.77.0.(i+1), the hub 10.77.0.254.
func New(hosts int) (_ *Network, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root")
	}
	if err := removeStale(); err != nil {
		return nil, err
	}
	n := &Network{name: prefix + strconv.Itoa(os.Getpid()), hosts: hosts}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if err := ip("netns", "add", n.Hub()); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		// No spanning tree: a link that comes back forwards at once.
		{"link", "add", "br0", "type", "bridge", "stp_state", "0"},
		{"addr", "add", "10.77.0.254/24", "dev", "br0"},
		{"link", "set", "br0", "up"},
	} {
		if err := ip(append([]string{"-n", n.Hub()}, args...)...); err != nil {
			return nil, err
		}
	}
	for i := range hosts {
		if err := n.addHost(i); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *Network) addHost(i int) error {
	port := fmt.Sprintf("port%d", i)
	for _, args := range [][]string{
		{"netns", "add", n.Host(i)},
		{"-n", n.Hub(), "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", n.Host(i)},
		{"-n", n.Hub(), "link", "set", port, "master", "br0", "up"},
		{"-n", n.Host(i), "link", "set", "lo", "up"},
		{"-n", n.Host(i), "addr", "add", n.Addr(i) + "/24", "dev", "eth0"},
		{"-n", n.Host(i), "link", "set", "eth0", "up"},
	} {
		if err := ip(args...); err != nil {
			return err
		}
	}
	return nil
}

// Attach gives the network that another process made, by its name: it may be
// cut and healed. Close is the owner's.
func Attach(name string, hosts int) (*Network, error) {
	n := &Network{name: name, hosts: hosts}
	if _, err := os.Stat(filepath.Join(dir, n.Hub())); err != nil {
		return nil, fmt.Errorf("no such network: %w", err)
	}
	return n, nil
}

// Name is what Attach takes.
func (n *Network) Name() string { return n.name }

// Hub is the name of the namespace that reaches every host.
func (n *Network) Hub() string { return n.name + "-hub" }

// Host is the name of host i's namespace.
func (n *Network) Host(i int) string { return n.name + "-" + strconv.Itoa(i) }

// Addr is host i's address.
func (n *Network) Addr(i int) string { return fmt.Sprintf("10.77.0.%d", i+1) }

// Hosts is how many hosts there are.
func (n *Network) Hosts() int { return n.hosts }

// Cut takes host i off the network; Heal brings it back.
func (n *Network) Cut(i int) error { return ip("-n", n.Host(i), "link", "set", "eth0", "down") }

// Heal brings host i back.
func (n *Network) Heal(i int) error { return ip("-n", n.Host(i), "link", "set", "eth0", "up") }

// Enter changes cmd so that it runs in a namespace, with the same process ID
// and everything else of this process: "ip netns exec" would hide the cgroups
// by a fresh /sys.
func Enter(name string, cmd *exec.Cmd) error {
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return fmt.Errorf("enter a network namespace: %w (Debian: util-linux)", err)
	}
	if cmd.Err != nil {
		return cmd.Err
	}
	cmd.Args = append([]string{nsenter, "--net=" + filepath.Join(dir, name), "--", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = nsenter
	return nil
}

// Close removes the namespaces, and with them their links.
func (n *Network) Close() error { return removeAll(n.name + "-") }

func removeAll(begin string) error {
	names, err := filepath.Glob(filepath.Join(dir, begin+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, ip("netns", "del", filepath.Base(name)))
	}
	return errors.Join(errs...)
}

// removeStale removes what benchmarks that were killed left.
func removeStale() error {
	names, err := filepath.Glob(filepath.Join(dir, prefix+"*-hub"))
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		owner := strings.TrimSuffix(filepath.Base(name), "-hub")
		pid, err := strconv.Atoi(strings.TrimPrefix(owner, prefix))
		if err != nil || syscall.Kill(pid, 0) == nil {
			continue // not ours, or at work
		}
		errs = append(errs, removeAll(owner+"-"))
	}
	return errors.Join(errs...)
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
