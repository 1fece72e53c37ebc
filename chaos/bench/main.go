package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	binary   string // holdfast
	peer     string // the load of etcd
	nodeTest string // the test binary of package node
	boxTest  string // the test binary of package sandbox
	dir      string // folder for everything
	out      string // JSON of the results
	run      *regexp.Regexp
	quick    bool
	strict   bool
	child    string // netns: this process measures one suite inside it
	repeat   int
	clients  int
	conns    int
	warmup   time.Duration
	duration time.Duration
	tasks    int // of the suite of a full queue
	kills    int
	cuts     int
	soak     time.Duration
	soakers  int
	hogs     int
}

// suite is a number of figures that are measured together.
type suite struct {
	name, what string
	run        func(context.Context, *bench) error
}

func suites() []suite {
	return []suite{
		{"inprocess", "commits and lives in one process, beside the stock library", runInProcess},
		{"commits", "commits over the network, beside etcd", runCommits},
		{"isolation", "one sandbox, beside bubblewrap, crun, runc and none", runIsolation},
		{"sandbox", "lives of tasks in real sandboxes", runSandbox},
		{"million", "a full queue: memory, restart, snapshots", runMillion},
		{"failover", "the leader's death between network namespaces", runFailover},
		{"dev", "the one-node cluster for one person", runDev},
		{"soak", "false elections and refusals under full load", runSoak},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := execute(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(1)
	}
}

// quick is what -quick stands for.
var quick = map[string]string{
	"repeat": "1", "warmup": "300ms", "duration": "1s", "tasks": "20000", "kills": "2", "cuts": "1", "soak": "5s", "soak-clients": "64",
}

func parse(args []string, help io.Writer) (options, error) {
	o := options{run: regexp.MustCompile("")}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(help)
	f.Usage = func() {
		fmt.Fprintln(help, "usage: bench [flags]; the suites are:")
		for _, s := range suites() {
			fmt.Fprintf(help, "  %-10s %s\n", s.name, s.what)
		}
		f.PrintDefaults()
	}
	f.Func("run", "measure the suites whose name this regular `expression` matches", func(s string) (err error) {
		o.run, err = regexp.Compile(s)
		return err
	})
	f.StringVar(&o.binary, "binary", "bin/holdfast", "holdfast")
	f.StringVar(&o.peer, "peer", "bin/bench-peer", "the load of etcd")
	f.StringVar(&o.nodeTest, "node-test", "bin/node.test", "the test binary of package node")
	f.StringVar(&o.boxTest, "sandbox-test", "bin/sandbox.test", "the test binary of package sandbox")
	f.StringVar(&o.dir, "dir", os.TempDir(), "folder for the data, on the disk that is to be measured")
	f.StringVar(&o.out, "out", "bin/bench-results.json", "file for the results; the table is beside it")
	f.BoolVar(&o.quick, "quick", false, "one short run of everything, to see that it works")
	f.BoolVar(&o.strict, "strict", false, "fail if a target is not reached")
	f.StringVar(&o.child, "netns", "", "for the program's own use")
	f.IntVar(&o.repeat, "repeat", 5, "rounds of what is compared")
	f.IntVar(&o.clients, "clients", 256, "clients of the comparisons")
	f.IntVar(&o.conns, "conns", 8, "connections that they share, on either side")
	f.DurationVar(&o.warmup, "warmup", 2*time.Second, "load before each measurement")
	f.DurationVar(&o.duration, "duration", 5*time.Second, "of each measurement")
	f.IntVar(&o.tasks, "tasks", 1_000_000, "tasks of the full queue")
	f.IntVar(&o.kills, "kills", 100, "leaders to kill")
	f.IntVar(&o.cuts, "cuts", 50, "leaders to cut off, and to stop")
	f.DurationVar(&o.soak, "soak", 30*time.Minute, "of the soak")
	f.IntVar(&o.soakers, "soak-clients", 2048, "HTTP clients of the soak")
	f.IntVar(&o.hogs, "soak-hogs", runtime.NumCPU(), "processes that burn a core beside the soak")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q; see -help", f.Arg(0))
	}
	if o.quick { // what was not said
		set := map[string]bool{}
		f.Visit(func(f *flag.Flag) { set[f.Name] = true })
		for name, value := range quick {
			if !set[name] {
				_ = f.Set(name, value) // constants that parse
			}
		}
	}
	if o.repeat < 1 || o.clients < 1 || o.conns < 1 || o.duration <= 0 || o.tasks < 1000 || o.kills < 1 || o.cuts < 1 || o.soakers < 1 {
		return o, errors.New("counts and durations must be positive, and tasks at least 1,000")
	}
	return o, nil
}

func execute(ctx context.Context, args []string, out, log io.Writer) error {
	o, err := parse(args, log)
	if err != nil {
		return err
	}
	b, err := newBench(o, log)
	if err != nil {
		return err
	}
	defer b.close()
	if o.child != "" {
		return b.measureInside(ctx, out)
	}
	machine := describe(ctx, o)
	b.say("%s", strings.Join(machine.Lines(), "; "))
	var failed []error
	for _, s := range suites() {
		if !o.run.MatchString(s.name) || ctx.Err() != nil {
			continue
		}
		b.say("== %s: %s", s.name, s.what)
		begun := time.Now()
		if err := s.run(ctx, b); err != nil {
			failed = append(failed, fmt.Errorf("suite %s: %w", s.name, err))
			b.say("suite %s failed: %v", s.name, err)
		}
		b.say("== %s took %v", s.name, time.Since(begun).Round(time.Second))
		if err := b.write(machine); err != nil { // a later suite may be interrupted
			return err
		}
	}
	if err := b.print(out, machine); err != nil {
		return err
	}
	if o.strict {
		failed = append(failed, b.missed())
	}
	return errors.Join(append(failed, ctx.Err())...)
}
