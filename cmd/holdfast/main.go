package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"holdfast/chaos/fault/launch"
	"holdfast/sandbox"
)

func main() {
	sandbox.RunIfChild()
	launch.RunIfChild()
	os.Exit(realMain())
}

// realMain is main with an exit code, so that tests can run it by name.
func realMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		inTTY: isTerminal(os.Stdin), outTTY: isTerminal(os.Stdout), errTTY: isTerminal(os.Stderr),
		env:       os.LookupEnv,
		node:      nodeCommands,
		interrupt: stop,
	}
	return a.main(ctx, os.Args[1:])
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
