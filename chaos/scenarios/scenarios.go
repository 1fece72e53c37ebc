// Package scenarios holds the scenarios that are shipped: a file each, checked
// by the tests. Goroutines: none.
package scenarios

import (
	"embed"
	"fmt"
	"strings"

	"holdfast/chaos/scenario"
)

//go:embed *.yaml
var files embed.FS

// All are the shipped scenarios, by name.
func All() ([]scenario.Scenario, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var out []scenario.Scenario
	for _, e := range entries {
		s, err := Get(strings.TrimSuffix(e.Name(), ".yaml"))
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// Get is one shipped scenario.
func Get(name string) (scenario.Scenario, error) {
	b, err := files.ReadFile(name + ".yaml")
	if err != nil {
		return scenario.Scenario{}, fmt.Errorf("no scenario %q is shipped; see: holdfast chaos list (a file is named with its path)", name)
	}
	s, err := scenario.Parse(b)
	if err != nil {
		return s, fmt.Errorf("scenario %s: %w", name, err)
	}
	return s, nil
}

// Text is the file of a shipped scenario.
func Text(name string) ([]byte, error) { return files.ReadFile(name + ".yaml") }
