package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// profiles is the file of known clusters.
type profiles struct {
	Current  string                `yaml:"current,omitempty" json:"current,omitempty"`
	Profiles map[string]connection `yaml:"profiles,omitempty" json:"profiles"`
}

// profilesPath is $XDG_CONFIG_HOME/holdfast/config.yaml.
func (a *app) profilesPath() string {
	if dir, ok := a.env("XDG_CONFIG_HOME"); ok && dir != "" {
		return filepath.Join(dir, "holdfast", "config.yaml")
	}
	home, _ := a.env("HOME")
	return filepath.Join(home, ".config", "holdfast", "config.yaml")
}

func (a *app) loadProfiles() (*profiles, error) {
	path := a.profilesPath()
	p := &profiles{Profiles: map[string]connection{}}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read profiles: %w", err)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, &exitError{exitRefused, fmt.Errorf("%s: others may read it (mode %04o) and it may hold tokens; run: chmod 600 %s", path, perm, path)}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read profiles: %w", err)
	}
	if len(b) == 0 {
		return p, nil
	}
	if err := yaml.UnmarshalWithOptions(b, p, yaml.Strict()); err != nil {
		// Without the source: the lines around a fault may hold a token.
		return nil, usagef("%s: %s", path, yaml.FormatError(err, false, false))
	}
	if p.Profiles == nil {
		p.Profiles = map[string]connection{}
	}
	return p, nil
}

// save replaces the file at once, so that a full disk or a crash leaves the
// old one.
func (a *app) saveProfiles(p *profiles) error {
	path := a.profilesPath()
	b, err := yaml.Marshal(p)
	if err != nil {
		return fmt.Errorf("save profiles: %w", err)
	}
	return writePrivate(path, b)
}

// writePrivate replaces path by b, mode 0600, making its folder.
func writePrivate(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".holdfast-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (a *app) completeProfiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	p, err := a.loadProfiles()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(p.Profiles)), cobra.ShellCompDirectiveNoFileComp
}
