package main

import (
	"fmt"
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
