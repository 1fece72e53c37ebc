package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/client"
	"holdfast/node"
)

// Exit codes. They are part of the command line's contract.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitRefused     = 4
	exitUnavailable = 5
	exitConflict    = 6

	exitCannotIsolate = 7 // of doctor
	exitIncomplete    = 8

	exitTimeout     = 124
	exitSelf        = 125
	exitNotStarted  = 127
	exitSignal      = 128 // plus the signal's number
	exitInterrupted = exitSignal + int(unix.SIGINT)
	exitOOM         = exitSignal + int(unix.SIGKILL)
	// As a shell would say of a command that the kernel's own limits end.
	exitCPUTime = exitSignal + int(unix.SIGXCPU)
	exitTooMuch = exitSignal + int(unix.SIGXFSZ)
)

const exitHelp = `Exit codes:
  0    success
  1    failure
  2    wrong usage, or a request that is invalid
  3    what was asked for does not exist
  4    refused: no, unknown or expired token, or its role is too low
  5    unavailable: no node answered, no leader, or no room in the queue
  6    conflict: its state does not allow that
  130  interrupted
run and wait exit with the task's code instead, and doctor with what it found,
7 or 8: see their help.`

const taskExitHelp = `Exit codes:
  the command's own, if it exited
  124  it ran, or waited in the queue, longer than its timeout
  125  holdfast failed: could not submit or follow, or the worker was lost
  127  the command could not be started
  128+n  signal n ended it; 137 (SIGKILL) also when it ran out of memory
  130  it was cancelled
  152  it used more CPU time than its limit (SIGXCPU)
  153  it wrote more output than its limit, or filled its scratch folder (SIGXFSZ)
  2    wrong usage`

// exitError gives an error an exit code. With a nil err nothing is printed:
// everything has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// silently ends with code and says nothing.
func silently(code int) error {
	if code == exitOK {
		return nil
	}
	return &exitError{code: code}
}

// exitCode maps an error to its code.
func exitCode(ctx context.Context, err error) int {
	var e *exitError
	var refused *node.JoinError
	switch {
	case errors.As(err, &e):
		return e.code
	case errors.Is(err, node.ErrJoinToken):
		return exitUsage
	case errors.As(err, &refused) && refused.Code != client.CodeUnavailable, errors.Is(err, node.ErrWrongCluster):
		return exitRefused
	case errors.As(err, &refused):
		return exitUnavailable
	case ctx.Err() != nil:
		return exitInterrupted
	case client.IsNotFound(err):
		return exitNotFound
	case client.IsForbidden(err), client.IsUnauthenticated(err), errors.Is(err, client.ErrUntrusted):
		return exitRefused
	case client.IsOverloaded(err), client.IsUnavailable(err):
		return exitUnavailable
	case client.IsConflict(err):
		return exitConflict
	case client.IsInvalid(err), errors.Is(err, client.ErrConfig):
		return exitUsage
	}
	return exitFailure
}

// hint says what to do next; empty if the error says it all.
func (a *app) hint(err error) string {
	switch {
	case errors.Is(err, client.ErrUntrusted):
		return "Compare the CA pin with the output of 'holdfast cluster status' on a node, and correct the profile or HOLDFAST_CA_PIN."
	case client.IsUnauthenticated(err):
		return "Give a valid token: HOLDFAST_TOKEN, --token-file, or 'holdfast config set PROFILE --token-file FILE'."
	case client.IsForbidden(err):
		return "The token's role does not allow this; an admin makes others with 'holdfast token create --role ROLE'."
	case client.IsOverloaded(err):
		return "The cluster is at its limit; try again later, or raise the bound."
	case client.IsUnavailable(err):
		return "Check that the nodes run and that a majority of the voters is up; 'holdfast config show' prints where this looked."
	}
	return ""
}

// taskCode is the exit code that stands for a task's end.
func taskCode(t *client.Task) int {
	if t.State == "succeeded" {
		return exitOK
	}
	reason := ""
	if t.Result != nil {
		reason = t.Result.Reason
	}
	switch {
	case t.State == "expired", reason == "timeout", reason == "queue_timeout":
		return exitTimeout
	case t.State == "cancelled", reason == "cancelled":
		return exitInterrupted
	case reason == "out_of_memory":
		return exitOOM
	case reason == "cpu_time":
		return exitCPUTime
	case reason == "output_limit", reason == "disk_limit":
		return exitTooMuch
	case reason == "start_failed":
		return exitNotStarted
	case reason == "signal":
		name := t.Result.Signal
		if !strings.HasPrefix(name, "SIG") {
			name = "SIG" + name
		}
		if n := unix.SignalNum(name); n != 0 {
			return exitSignal + int(n)
		}
		return exitSelf
	case reason == "exit" && t.Result.ExitCode != nil && *t.Result.ExitCode != 0:
		return *t.Result.ExitCode & 0xff
	case reason == "exit":
		return exitFailure
	}
	return exitSelf // lost, shutdown
}

// ending describes a task's end in a few words.
func ending(t *client.Task) string {
	if t.Result == nil {
		return t.State
	}
	r := t.Result
	s := map[string]string{
		"timeout": "run timeout", "queue_timeout": "queue timeout", "out_of_memory": "out of memory", "lost": "its worker was lost",
		"start_failed": "could not be started", "shutdown": "its worker was stopped", "cancelled": "cancelled",
		"cpu_time": "out of CPU time", "output_limit": "too much output", "disk_limit": "its scratch folder was full",
	}[r.Reason]
	switch {
	case r.Reason == "exit" && r.ExitCode != nil:
		s = fmt.Sprintf("exit code %d", *r.ExitCode)
	case r.Reason == "signal":
		s = "signal " + r.Signal
	case s == "":
		s = r.Reason
	}
	if r.Message != "" {
		s += ": " + r.Message
	}
	return s
}
