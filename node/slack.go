package node

import (
	"fmt"
	"os"
	"strconv"
)

// timerSlack is how late, in nanoseconds, the kernel may wake a thread that
// sleeps; Linux's default is 50 µs. Go's runtime has a thread that looks after
// the others every 20 µs while any of them is busy or in a system call: beside
// commits, each a round of fsyncs, it took an eighth of a node's processor
// time. Half a millisecond is below what other timers notice: Go rounds theirs
// to a millisecond, and QUIC's pacer saves up two.
const timerSlack = 500_000

// slackPasses bounds the search for threads: those that a thread starts have
// its slack, so that a second pass finds the few that were just being started.
const slackPasses = 4

// relaxTimers gives every thread of this process the timer slack, and through
// them every later one. It needs CAP_SYS_NICE, which a node that runs as root
// has. Sandboxes do not inherit it: their launcher sets Linux's default.
func relaxTimers() error {
	value := []byte(strconv.Itoa(timerSlack))
	done := map[string]bool{}
	for range slackPasses {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list the node's threads: %w", err)
		}
		before := len(done)
		for _, t := range threads {
			if done[t.Name()] {
				continue
			}
			// A thread's folder under task does not have the file; this one,
			// which no listing shows, does.
			if err := os.WriteFile("/proc/"+t.Name()+"/timerslack_ns", value, 0); err != nil && !os.IsNotExist(err) {
				return fmt.Errorf("set the timer slack of a thread: %w", err)
			}
			done[t.Name()] = true
		}
		if len(done) == before {
			return nil
		}
	}
	return nil
}
