package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"holdfast/chaos/docs"
	"holdfast/client"
	"holdfast/node"
)

func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func column(t *testing.T, name, heading string) map[string][]string {
	t.Helper()
	rows, err := docs.Table(page(t, name), heading)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, r := range rows {
		out[r[0]] = r
	}
	return out
}

// keysOf lists the leaves of a struct by a tag, as in a.b.
func keysOf(typ reflect.Type, tag, prefix string, out map[string]bool, nested bool) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get(tag), ",")
		if name == "" || name == "-" {
			continue
		}
		in := f.Type
		if in.Kind() == reflect.Slice || in.Kind() == reflect.Pointer && in.Elem().Kind() == reflect.Struct {
			in = in.Elem()
		}
		if in.Kind() != reflect.Struct {
			out[prefix+name] = true
			continue
		}
		if nested && f.Type.Kind() != reflect.Struct {
			out[prefix+name] = true // the list itself is a field with a bound, the pointer one with a default
		}
		keysOf(in, tag, prefix+name+".", out, nested)
	}
}

func sameKeys(t *testing.T, what string, code map[string]bool, onPage map[string][]string) {
	t.Helper()
	for k := range code {
		if onPage[k] == nil {
			t.Errorf("%s: %s is not on the page", what, k)
		}
	}
	for k := range onPage {
		if !code[k] {
			t.Errorf("%s: the page has %s, which does not exist", what, k)
		}
	}
}

// TestConfigurationPage compares the reference with the struct, and each
// variable and flag with what it sets.
func TestConfigurationPage(t *testing.T) {
	keys := map[string]bool{}
	keysOf(reflect.TypeFor[node.Config](), "yaml", "", keys, false)
	table := column(t, "operate.md", "Configuration")
	sameKeys(t, "configuration", keys, table)
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	new(nodeFlags).add(flags)
	samples := map[string]string{
		"peers": "a:1,b:2", "labels": "k=v", "cpu_millis": "77", "memory_bytes": "77", "output_bytes": "77", "sandbox.warm_max": "77", "voters": "7",
		"drain": "77s", "lease": "77s", "stall_limit": "77s", "stable": "77s", "sandbox.allow_missing": "landlock",
	}
	for key, row := range table {
		variable, flag := strings.Trim(row[1], "`"), strings.TrimPrefix(strings.Trim(row[2], "`"), "--")
		if flag != "" && flags.Lookup(flag) == nil {
			t.Errorf("%s: no flag --%s", key, flag)
		}
		if variable == "" {
			continue
		}
		value := "text"
		if s, ok := samples[key]; ok {
			value = s
		}
		c := node.Config{}
		err := c.FromEnv(func(k string) (string, bool) { return value, k == variable })
		if err != nil || reflect.DeepEqual(c, node.Config{}) {
			t.Errorf("%s: %s sets nothing: %v", key, variable, err)
		}
	}
}

// TestSpecPage compares the reference with the SDK's type.
func TestSpecPage(t *testing.T) {
	keys := map[string]bool{}
	keysOf(reflect.TypeFor[client.TaskSpec](), "json", "", keys, true)
	sameKeys(t, "spec", keys, column(t, "submit.md", "Spec"))
}

// TestCommandsOfPages wants every command line of the pages to name a command
// and flags that exist, also in blocks that no test runs.
func TestCommandsOfPages(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range append(files, filepath.Join("..", "..", "README.md")) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		blocks, err := docs.Blocks(string(b))
		if err != nil {
			continue // chaos/docs says so
		}
		for _, block := range blocks {
			if block.Lang != "sh" {
				continue
			}
			text := strings.ReplaceAll(block.Text, "\\\n", " ")
			for line := range strings.Lines(text) {
				words, ok := commandIn(line)
				if !ok {
					continue
				}
				seen++
				if err := known(words); err != nil {
					t.Errorf("%s, block at line %d: holdfast %s: %v", filepath.Base(f), block.Line, strings.Join(words, " "), err)
				}
			}
		}
	}
	if seen < 50 {
		t.Fatalf("only %d commands were found", seen)
	}
}

// commandIn gives the words of a line's first call of holdfast, up to what
// belongs to the shell or to the task.
func commandIn(line string) ([]string, bool) {
	fields := strings.Fields(line)
	for i, w := range fields {
		if w != "holdfast" && w != "$(holdfast" && (w != "bin/holdfast" || i > 0) {
			continue
		}
		var out []string
		for _, w := range fields[i+1:] {
			if w == "--" || strings.ContainsAny(w, "|&;#<>") || strings.HasPrefix(w, "$(") {
				break
			}
			out = append(out, strings.TrimSuffix(w, ")"))
			if strings.HasSuffix(w, ")") {
				break
			}
		}
		return out, len(out) > 0 && !strings.HasSuffix(out[0], ".service")
	}
	return nil, false
}

func known(words []string) error {
	a := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard, env: func(string) (string, bool) { return "", false }}
	root := a.root()
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	if cmd == root || cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return errors.New("no such command")
	}
	return flagsOf(cmd, rest)
}

// flagsOf checks names alone: values may be the shell's to make.
func flagsOf(cmd *cobra.Command, words []string) error {
	for _, w := range words {
		name, _, _ := strings.Cut(w, "=")
		switch {
		case strings.HasPrefix(name, "--"):
			if cmd.Flags().Lookup(name[2:]) == nil && cmd.InheritedFlags().Lookup(name[2:]) == nil && name != "--help" {
				return fmt.Errorf("no flag %s", name)
			}
		case len(name) == 2 && name[0] == '-':
			if cmd.Flags().ShorthandLookup(name[1:]) == nil && cmd.InheritedFlags().ShorthandLookup(name[1:]) == nil {
				return fmt.Errorf("no flag %s", name)
			}
		}
	}
	return nil
}
