// Command holdfast is the one binary: a node of a cluster, and the command
// line of its users and operators.
//
// Each file holds one group of subcommands; what a library could hold is in
// client and node. Rules that the files share:
//
//   - stdout carries what was asked for, stderr everything else. --json prints
//     one document, or one per line where there can be many.
//   - Colours, progress and questions are for terminals only.
//   - Text that came from elsewhere is cleaned of control characters before it
//     reaches a terminal, except a task's own output, which is the task's.
//   - No secret is taken from the command line, where other users of the
//     machine could read it, but a join token, which works once. Files that
//     hold secrets are refused when others may read them.
//   - Exit codes are in exit.go and are a contract.
package main
