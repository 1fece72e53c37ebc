package sandbox

import "time"

// EndReason says why an attempt ended.
type EndReason string

// The reasons. The first two come from the command itself.
const (
	EndExit        EndReason = "exit"          // the command exited; see ExitCode
	EndSignal      EndReason = "signal"        // a signal ended the command; see Signal
	EndTimeout     EndReason = "timeout"       // WallTime or the context's deadline passed
	EndOutOfMemory EndReason = "out_of_memory" // the kernel killed it at MemoryBytes
	EndCPUTime     EndReason = "cpu_time"      // it used more than CPUTime
	EndDiskLimit   EndReason = "disk_limit"    // it failed with its scratch folder full
	EndCancelled   EndReason = "cancelled"     // the context or the caller cancelled it
	EndLost        EndReason = "lost"          // the sandbox vanished, or the node lost its lease
	EndShutdown    EndReason = "shutdown"      // the node is stopping
	EndStartFailed EndReason = "start_failed"  // the command could not be executed; see Message
)

// Result is how one attempt ended. When it is out, no process, mount, cgroup
// or descriptor of the attempt is left.
type Result struct {
	ExitCode int       // of the command; -1 when it did not exit by itself
	Signal   string    // for example "SIGKILL"; empty when it exited by itself
	Reason   EndReason //
	Message  string    // for people; empty when there is nothing to add
	Usage    Usage
	Weaker   []string // the walls that the sandbox did without: see Config.AllowMissing
	// NotEnforced names the limits that were asked for and that this machine's
	// kernel cannot enforce, for example cpu_time.
	NotEnforced []string
}

// Usage is what the attempt consumed, by the counters of its cgroups.
type Usage struct {
	CPU, Wall       time.Duration
	MemoryPeakBytes int64
}
