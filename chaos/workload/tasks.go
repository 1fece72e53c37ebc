package workload

import (
	"fmt"
	"time"

	"holdfast/chaos/history"
	"holdfast/client"
)

// Kinds are the tasks that the load submits, by the names of Tasks. All but
// "cheap" write every attempt's effects to the ledger.
var Kinds = []string{
	"cheap",    // never runs: no node fits, and it expires after a second
	"effect",   // takes effect and succeeds at once
	"long",     // takes effect every 50 ms for two seconds
	"stubborn", // the same, and ignores SIGTERM
	"flaky",    // fails once and may be retried
	"hopeless", // fails whenever it is tried
	"deadline", // would run for longer than its run timeout
}

// What the kinds wait for.
const (
	cheapTimeout  = time.Second
	runTimeout    = 500 * time.Millisecond
	retryBackoff  = 100 * time.Millisecond
	stubbornGrace = 500 * time.Millisecond
	queueTimeout  = 10 * time.Minute // a task that never runs must end, too
)

// always is how often a task fails that never succeeds: more often than it can
// be tried.
const always = 1 << 20

// nowhere is a constraint that no node fits.
var nowhere = []client.Constraint{{Key: "chaos.holdfast/nowhere", Op: "exists"}}

// say appends a line to the ledger: one write of less than a page, which the
// kernel does not mix with others. A task that cannot say what it does must
// not do it.
const say = `me=$(cat /proc/sys/kernel/random/uuid)
say() { echo "$key $me $1 $(date +%s.%N)" >> /ledger/effects || exit 9; }
finish() { say end; echo "token=$me"; exit 0; }
fail() { echo "token=$me"; exit 3; }
say begin
`

// ticks takes effect n times, 50 ms apart.
func ticks(n int) string {
	return fmt.Sprintf("i=0; while [ $i -lt %d ]; do say tick; sleep 0.05; i=$((i+1)); done\n", n)
}

// tries counts the attempts of a task, in a file of its own: to count lines of
// the ledger would take longer with every run.
const tries = "echo x >> /ledger/tries-$key; n=$(wc -l < /ledger/tries-$key)\n"

// task makes a task of a kind, named by its request's key. The canary, if
// there is one, comes to it in every way that a secret can.
func (l *Ledger) task(kind, key, canary string) (client.TaskSpec, history.Rules) {
	spec := client.TaskSpec{
		Name: key, Resources: client.Resources{CPUMillis: 20, MemoryBytes: 16 << 20, PIDs: 16},
		Labels: map[string]string{"chaos": kind},
	}
	if canary != "" {
		spec.Env = map[string]string{"CANARY": canary}
		spec.Stdin = canary
		spec.Secrets = []client.Secret{{Name: "canary", Value: canary}}
	}
	if kind == "cheap" {
		spec.Command = []string{"true"}
		spec.Constraints = nowhere
		spec.Timeouts.Queue = client.Duration(cheapTimeout)
		return spec, history.Rules{QueueTimeout: int64(cheapTimeout)}
	}
	rules := history.Rules{Effects: true, QueueTimeout: int64(queueTimeout)}
	body := "finish"
	switch kind {
	case "long":
		body = ticks(40) + "finish"
	case "effect":
		body = "cat\nfinish" // what comes on standard input is in its output
	case "stubborn":
		body = "trap '' TERM\n" + ticks(40) + "finish"
		spec.Timeouts.Grace = client.Duration(stubbornGrace)
	case "flaky", "hopeless":
		rules.Fails, rules.RetryLimit, rules.Backoff = 1, 2, int64(retryBackoff)
		body = tries + "[ $n -gt 1 ] && finish\nfail"
		if kind == "hopeless" {
			rules.Fails, body = always, "fail"
		}
	case "deadline":
		rules.RunTimeout = int64(runTimeout)
		body = ticks(400) + "finish"
	}
	spec.Command = []string{"/bin/sh", "-c", "key=" + key + "\n" + say + body}
	spec.Mounts = l.grant()
	spec.Retry = client.Retry{Limit: rules.RetryLimit, Backoff: client.Duration(rules.Backoff)}
	spec.Timeouts.Queue = client.Duration(rules.QueueTimeout)
	spec.Timeouts.Run = client.Duration(rules.RunTimeout)
	return spec, rules
}
