package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Secret is a file of mode 0400 that the command's user owns.
type Secret struct {
	Name  string // within SecretsFolder
	Value []byte
}

// SecretsFolder is where secrets are.
const SecretsFolder = "/run/secrets"

const (
	maxSecrets     = 64
	maxSecretBytes = 1 << 20 // of all: it is the node's memory
)

func (s Spec) validSecrets() error {
	if len(s.Secrets) == 0 {
		return nil
	}
	if len(s.Secrets) > maxSecrets {
		return invalid("Secrets", "%d, at most %d", len(s.Secrets), maxSecrets)
	}
	others := s.Mounts
	if s.Scratch != nil {
		others = append(others[:len(others):len(others)], Mount{Target: s.Scratch.Target})
	}
	if err := validTarget("Secrets", SecretsFolder, others); err != nil {
		return err
	}
	seen, total := map[string]bool{}, 0
	for i, x := range s.Secrets {
		field := fmt.Sprintf("Secrets[%d].Name", i)
		if err := cleanAbsolute(field, SecretsFolder+"/"+x.Name); err != nil {
			return err
		}
		for _, c := range x.Name {
			if c == '/' {
				return invalid(field, "%q has a slash", x.Name)
			}
		}
		if seen[x.Name] {
			return invalid(field, "%q comes twice", x.Name)
		}
		seen[x.Name], total = true, total+len(x.Value)
	}
	if total > maxSecretBytes {
		return invalid("Secrets", "%d bytes, at most %d", total, maxSecretBytes)
	}
	return nil
}

// openSecrets makes the files on a file system of their own, as a detached
// mount. It is a ramfs: the pages of a tmpfs may be swapped to a disk. A ramfs
// has no bound, and needs none, being read-only from here on.
func openSecrets(secrets []Secret, user int) (*os.File, error) {
	m, err := newMount("ramfs", 0, [][2]string{{"mode", "0755"}})
	if err != nil {
		return nil, err
	}
	for _, s := range secrets {
		if err := writeSecret(m, s, user); err != nil {
			m.Close()
			return nil, err
		}
	}
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	if err := unix.MountSetattr(int(m.Fd()), "", unix.AT_EMPTY_PATH, attr); err != nil {
		m.Close()
		return nil, fmt.Errorf("make the secrets read-only: %w", err)
	}
	return m, nil
}

func writeSecret(dir *os.File, s Secret, user int) error {
	fd, err := unix.Openat(int(dir.Fd()), s.Name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o400)
	if err != nil {
		return fmt.Errorf("make the secret %s: %w", s.Name, err)
	}
	f := os.NewFile(uintptr(fd), s.Name)
	defer f.Close()
	if _, err := f.Write(s.Value); err != nil {
		return fmt.Errorf("write the secret %s: %w", s.Name, err)
	}
	if err := f.Chown(user, user); err != nil {
		return fmt.Errorf("give the secret %s to the task's user: %w", s.Name, err)
	}
	return nil
}
