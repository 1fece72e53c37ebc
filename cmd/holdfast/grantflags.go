package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/client"
)

// specWords are the flags of a spec whose value is one of a few words.
var specWords = map[string][]string{
	"on-lost":         {"retry", "fail"},
	"placement":       {"spread", "pack"},
	"on-output-limit": {"truncate", "end"},
	"network":         {"loopback", "none"},
}

// completeSpecWords offers them.
func completeSpecWords(c *cobra.Command) {
	for flag, words := range specWords {
		_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
}

// parseScratch reads SIZE or /target:SIZE or /target:SIZE:FILES; empty is none.
func parseScratch(s string) (*client.Scratch, error) {
	if s == "" {
		return nil, nil
	}
	parts := strings.Split(s, ":")
	out := &client.Scratch{}
	if strings.HasPrefix(parts[0], "/") {
		out.Target, parts = parts[0], parts[1:]
	}
	bad := fmt.Errorf("%q: want SIZE, /target:SIZE or /target:SIZE:FILES, as in /work:64MiB:1000", s)
	if len(parts) == 0 || len(parts) > 2 {
		return nil, bad
	}
	var err error
	if out.Bytes, err = parseSize(parts[0]); err != nil || out.Bytes == 0 {
		return nil, bad
	}
	if len(parts) == 2 {
		if out.Inodes, err = strconv.Atoi(parts[1]); err != nil || out.Inodes < 1 {
			return nil, bad
		}
	}
	return out, nil
}

// maxSecretFile is the API's bound.
const maxSecretFile = 16 << 10

// readSecrets reads NAME=FILE. There is no form with the value itself: other
// users of this machine can read a command line.
func readSecrets(words []string) ([]client.Secret, error) {
	var out []client.Secret
	for _, w := range words {
		name, file, ok := strings.Cut(w, "=")
		if !ok || name == "" || file == "" {
			return nil, fmt.Errorf("want NAME=FILE") // without the word: it may be a value
		}
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read the secret %s: %w", name, err)
		}
		b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read the secret %s: %w", name, err)
		}
		if len(b) == 0 || len(b) > maxSecretFile {
			return nil, fmt.Errorf("the secret %s has %d bytes, want 1 to %d", name, len(b), maxSecretFile)
		}
		out = append(out, client.Secret{Name: name, ValueBase64: b})
	}
	return out, nil
}

// grantsOf lists what a spec grants beyond the empty sandbox and what it takes
// away; of secrets and variables the names alone.
func grantsOf(s *client.TaskSpec) string {
	var out []string
	for _, m := range s.Mounts {
		mode := "ro"
		if m.Writable {
			mode = "rw"
		}
		out = append(out, fmt.Sprintf("mount %s:%s:%s", m.Source, m.Target, mode))
	}
	if s.Scratch != nil {
		out = append(out, fmt.Sprintf("scratch %s of %s, %d files", s.Scratch.Target, size(s.Scratch.Bytes), s.Scratch.Inodes))
	}
	for _, x := range s.Secrets {
		out = append(out, "secret "+x.Name)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Env)) {
		out = append(out, "env "+k)
	}
	if s.Network != "" {
		out = append(out, "network "+s.Network)
	}
	return strings.Join(out, "; ")
}
