package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"holdfast/client"
	"holdfast/client/sealed"
)

func (a *app) snapshotCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "snapshot", Short: "Save, restore and inspect snapshots",
		Long: `Save, restore and inspect snapshots. A snapshot holds the tasks, the API tokens'
hashes and the settings, not the cluster's identity and nodes. It is sealed
before it reaches the disk, with a passphrase or a random key: without that it
is worth nothing, to a thief as to you.`,
		Args: cobra.ArbitraryArgs, RunE: group,
	}
	c.AddCommand(a.snapshotSaveCmd(), a.snapshotRestoreCmd(), a.snapshotInspectCmd())
	return c
}

// secretFlags say what a snapshot is sealed with.
type secretFlags struct{ passphraseFile, keyFile string }

func (s *secretFlags) add(f *pflag.FlagSet) {
	f.StringVar(&s.passphraseFile, "passphrase-file", "", "file with the passphrase (or HOLDFAST_SNAPSHOT_PASSPHRASE)")
	f.StringVar(&s.keyFile, "key-file", "", "file with the random key")
}

// given reads the secret from the flags, the environment or the terminal.
// twice asks for a typed passphrase again.
func (a *app) secret(s secretFlags, twice bool) (sealed.Secret, error) {
	if s.keyFile != "" && s.passphraseFile != "" {
		return sealed.Secret{}, usagef("--key-file and --passphrase-file exclude each other")
	}
	if s.keyFile != "" {
		text, err := readSecret(s.keyFile)
		if err != nil {
			return sealed.Secret{}, err
		}
		k, err := sealed.ParseKey(text)
		if err != nil {
			return k, usagef("%s: %w", s.keyFile, err)
		}
		return k, nil
	}
	text := ""
	var err error
	switch {
	case s.passphraseFile != "":
		text, err = readSecret(s.passphraseFile)
	default:
		var ok bool
		if text, ok, err = a.lookup("HOLDFAST_SNAPSHOT_PASSPHRASE"); !ok && err == nil {
			text, err = a.askPassphrase(twice)
		}
	}
	if err != nil {
		return sealed.Secret{}, err
	}
	p, err := sealed.FromPassphrase(text)
	if err != nil {
		return p, usagef("%w", err)
	}
	return p, nil
}

func (a *app) askPassphrase(twice bool) (string, error) {
	f, ok := a.in.(*os.File)
	if !ok || !a.inTTY {
		return "", usagef("give --passphrase-file, --key-file or HOLDFAST_SNAPSHOT_PASSPHRASE: there is no terminal to ask at")
	}
	ask := func(prompt string) (string, error) {
		fmt.Fprint(a.err, prompt)
		defer fmt.Fprintln(a.err)
		b, err := term.ReadPassword(int(f.Fd()))
		return string(b), err
	}
	p, err := ask("Passphrase: ")
	if err != nil || !twice {
		return p, err
	}
	again, err := ask("Again: ")
	if err == nil && p != again {
		err = usagef("the two differ")
	}
	return p, err
}

func (a *app) snapshotSaveCmd() *cobra.Command {
	var s secretFlags
	var newKey string
	c := &cobra.Command{
		Use: "save FILE", Short: "Save a sealed snapshot of the running cluster", Args: exactArgs(1),
		Long: `Save a sealed snapshot of the running cluster. Writes go on meanwhile. FILE
appears when it is complete, mode 0600.`,
		Example: `  holdfast snapshot save --new-key-file backup.key cluster.hfsnap
  holdfast snapshot save --passphrase-file pass.txt cluster.hfsnap`,
		RunE: func(c *cobra.Command, args []string) error {
			if newKey != "" {
				if s != (secretFlags{}) {
					return usagef("--new-key-file excludes --key-file and --passphrase-file")
				}
				// An existing key opens older snapshots: never write over it.
				if _, err := os.Lstat(newKey); err == nil {
					return usagef("%s exists; use it with --key-file", newKey)
				}
				if err := writePrivate(newKey, []byte(sealed.NewKey()+"\n")); err != nil {
					return err
				}
				s.keyFile = newKey
			}
			secret, err := a.secret(s, true)
			if err != nil {
				return err
			}
			return a.with(func(cl *client.Client) error { return a.snapshotSave(c.Context(), cl, args[0], secret) })
		},
	}
	s.add(c.Flags())
	c.Flags().StringVar(&newKey, "new-key-file", "", "make a random key and write it to this file")
	return c
}

type snapshotReport struct {
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

func (a *app) snapshotSave(ctx context.Context, cl *client.Client, path string, secret sealed.Secret) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".holdfast-snapshot-*") // mode 0600
	if err != nil {
		return fmt.Errorf("save the snapshot: %w", err)
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	defer f.Close()
	w, err := sealed.NewWriter(f, secret)
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := cl.SnapshotSave(ctx, io.MultiWriter(w, sum))
	if err != nil {
		return err
	}
	if err := errors.Join(w.Close(), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("save the snapshot: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("save the snapshot: %w", err)
	}
	r := snapshotReport{path, n, hex.EncodeToString(sum.Sum(nil))}
	return a.emit(r, func() { a.say("saved %s, %s, sealed", path, size(n)) })
}

func (a *app) snapshotRestoreCmd() *cobra.Command {
	var s secretFlags
	var yes bool
	c := &cobra.Command{
		Use: "restore FILE", Short: "Replace the cluster's tasks and API tokens by a snapshot", Args: exactArgs(1),
		Long: `Replace the cluster's tasks, API tokens and settings by a snapshot. The cluster
keeps its identity and nodes; tasks that ran when it was saved are queued again.
The whole file is checked before anything is sent. On a terminal this asks
first; elsewhere it needs --yes.`,
		Example: "  holdfast snapshot restore --yes --key-file backup.key cluster.hfsnap",
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.confirm(yes, "Replace every task and API token of this cluster?"); err != nil {
				return err
			}
			secret, err := a.secret(s, false)
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			defer f.Close()
			in, err := newUnsealed(f, secret)
			if err != nil {
				return fmt.Errorf("restore %s: %w", args[0], err)
			}
			return a.with(func(cl *client.Client) error {
				if err := cl.SnapshotRestore(c.Context(), in); err != nil {
					return err
				}
				return a.emit(snapshotReport{args[0], in.size, in.sum}, func() { a.say("restored %s, %s", args[0], size(in.size)) })
			})
		},
	}
	s.add(c.Flags())
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func (a *app) snapshotInspectCmd() *cobra.Command {
	var s secretFlags
	c := &cobra.Command{
		Use: "inspect FILE", Short: "Check a sealed snapshot from end to end", Args: exactArgs(1),
		Long:    "Check a sealed snapshot from end to end and print its size and the SHA-256 of\nwhat it holds. No cluster is needed.",
		Example: "  holdfast snapshot inspect --key-file backup.key cluster.hfsnap",
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("inspect: %w", err)
			}
			defer f.Close()
			secret, err := a.secret(s, false)
			if err != nil {
				return err
			}
			in, err := newUnsealed(f, secret)
			if err != nil {
				return fmt.Errorf("inspect %s: %w", args[0], err)
			}
			return a.emit(snapshotReport{args[0], in.size, in.sum}, func() {
				a.fields("File", args[0], "Sealed with", in.kind.String(), "Holds", size(in.size), "SHA-256", in.sum, "Verdict", "complete and authentic")
			})
		},
	}
	s.add(c.Flags())
	return c
}

// unsealed is the text of a sealed file that was checked to its end. It can be
// read again from the start, and to the SDK looks like a file.
type unsealed struct {
	f      *os.File
	secret sealed.Secret
	r      *sealed.Reader
	kind   sealed.Kind
	size   int64
	sum    string
	atEnd  bool // after Seek to the end, which only asks for the size
}

func newUnsealed(f *os.File, secret sealed.Secret) (*unsealed, error) {
	u := &unsealed{f: f, secret: secret}
	if _, err := u.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	h := sha256.New()
	n, err := io.Copy(h, u.r)
	if err != nil {
		return nil, err
	}
	u.kind, u.size, u.sum = u.r.Header.Kind, n, hex.EncodeToString(h.Sum(nil))
	return u, nil
}

func (u *unsealed) Read(p []byte) (int, error) {
	if u.atEnd {
		return 0, io.EOF
	}
	return u.r.Read(p)
}

// Seek goes to the start or the end.
func (u *unsealed) Seek(offset int64, whence int) (int64, error) {
	switch {
	case offset == 0 && whence == io.SeekEnd:
		u.atEnd = true
		return u.size, nil
	case offset == 0 && whence == io.SeekStart:
		if _, err := u.f.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
		r, err := sealed.NewReader(u.f, u.secret)
		u.r, u.atEnd = r, false
		return 0, err
	}
	return 0, errors.New("a sealed file is read from its start to its end")
}
