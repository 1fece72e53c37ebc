// Package figures keeps what was measured, judges it by its target, and prints
// it: as a Markdown table for people and as JSON for programs.
package figures
