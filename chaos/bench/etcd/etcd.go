package etcd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"holdfast/chaos/bench/proc"
)

// ErrNotInstalled says that there is no peer to measure.
var ErrNotInstalled = errors.New("etcd or etcdctl is not installed (Debian: apt-get install etcd-server etcd-client)")

// Cluster is three members.
type Cluster struct {
	dir     string
	certs   certs
	clients []string // https addresses
	members []*proc.Process
}

// Version is what is installed, as in 3.4.23.
func Version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "etcd", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNotInstalled, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(strings.TrimPrefix(line, "etcd Version:")), nil
}

// Start starts three members in a new folder below dir and returns when they
// have a leader. addr gives a free loopback address.
func Start(ctx context.Context, dir string, addr func() (string, error)) (_ *Cluster, err error) {
	for _, program := range []string{"etcd", "etcdctl"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotInstalled, err)
		}
	}
	c := &Cluster{}
	if c.dir, err = os.MkdirTemp(dir, "etcd-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if c.certs, err = makeCerts(c.dir, time.Now()); err != nil {
		return nil, err
	}
	var peers, initial []string
	for i := range 3 {
		for _, list := range []*[]string{&c.clients, &peers} {
			a, err := addr()
			if err != nil {
				return nil, err
			}
			*list = append(*list, "https://"+a)
		}
		initial = append(initial, fmt.Sprintf("m%d=%s", i, peers[i]))
	}
	for i := range peers {
		cmd := exec.Command("etcd",
			"--name", fmt.Sprintf("m%d", i), "--data-dir", filepath.Join(c.dir, fmt.Sprintf("m%d", i)),
			"--listen-client-urls", c.clients[i], "--advertise-client-urls", c.clients[i],
			"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
			"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-state", "new",
			"--cert-file", c.certs.cert, "--key-file", c.certs.key,
			"--peer-cert-file", c.certs.cert, "--peer-key-file", c.certs.key,
			"--peer-client-cert-auth", "--peer-trusted-ca-file", c.certs.ca,
			"--log-level", "error", "--logger", "zap")
		// Whatever this shell sets for etcdctl must not change the server.
		cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
		p, err := proc.Start(cmd)
		if err != nil {
			return nil, err
		}
		c.members = append(c.members, p)
	}
	return c, c.await(ctx)
}

// CPU is the processor time that the members have used so far.
func (c *Cluster) CPU() (time.Duration, error) {
	var sum time.Duration
	for _, m := range c.members {
		u, err := proc.Tree(m.PID())
		if err != nil {
			return 0, err
		}
		sum += u.CPU + u.ChildrenCPU
	}
	return sum, nil
}

// CA is the file that a client trusts.
func (c *Cluster) CA() string { return c.certs.ca }

// await returns when a leader is known to every member.
func (c *Cluster) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		_, _, err := c.Endpoints(ctx)
		if err == nil {
			return nil
		}
		for _, m := range c.members {
			select {
			case <-m.Ended():
				return fmt.Errorf("a member of the etcd cluster ended: %w", m.Wait())
			default:
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait for the etcd cluster: %w", err)
		}
	}
}

// Endpoints gives the leader's client address and a follower's.
func (c *Cluster) Endpoints(ctx context.Context) (leader, follower string, err error) {
	cmd := exec.CommandContext(ctx, "etcdctl", "--endpoints", strings.Join(c.clients, ","), "--cacert", c.certs.ca,
		"endpoint", "status", "-w", "json", "--command-timeout", "2s")
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	var failure bytes.Buffer
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		return "", "", fmt.Errorf("etcdctl endpoint status: %w: %s", err, strings.TrimSpace(failure.String()))
	}
	return roles(out)
}

// roles reads what etcdctl prints.
func roles(out []byte) (leader, follower string, err error) {
	var list []struct {
		Endpoint string
		Status   struct {
			Header struct {
				MemberID uint64 `json:"member_id"`
			} `json:"header"`
			Leader uint64 `json:"leader"`
		}
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return "", "", fmt.Errorf("read etcdctl's answer: %w", err)
	}
	for _, m := range list {
		switch m.Status.Leader {
		case 0:
			return "", "", fmt.Errorf("%s knows no leader", m.Endpoint)
		case m.Status.Header.MemberID:
			leader = m.Endpoint
		default:
			follower = m.Endpoint
		}
	}
	if leader == "" || follower == "" {
		return "", "", errors.New("the members name no leader among them")
	}
	return leader, follower, nil
}

// Close ends the members and removes their folder.
func (c *Cluster) Close() error {
	var errs []error
	for _, m := range c.members {
		errs = append(errs, m.Kill()) // what it wrote is thrown away
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}
