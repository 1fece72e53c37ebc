package api

import "holdfast/fsm"

// The words of the API for the numbers of the state, in the order of the
// numbers.
var (
	stateNames  = []string{fsm.Queued: "queued", fsm.Running: "running", fsm.Succeeded: "succeeded", fsm.Failed: "failed", fsm.Cancelled: "cancelled", fsm.Expired: "expired"}
	reasonNames = []string{
		fsm.EndExit: "exit", fsm.EndSignal: "signal", fsm.EndTimeout: "timeout", fsm.EndOutOfMemory: "out_of_memory",
		fsm.EndCancelled: "cancelled", fsm.EndLost: "lost", fsm.EndQueueTimeout: "queue_timeout",
		fsm.EndStartFailed: "start_failed", fsm.EndShutdown: "shutdown",
		fsm.EndCPUTime: "cpu_time", fsm.EndOutputLimit: "output_limit", fsm.EndDiskLimit: "disk_limit",
	}
	operatorNames  = []string{fsm.In: "in", fsm.NotIn: "not_in", fsm.Exists: "exists", fsm.NotExists: "not_exists"}
	placementNames = []string{fsm.Spread: "spread", fsm.Pack: "pack"}
	onLostNames    = []string{fsm.OnLostRetry: "retry", fsm.OnLostFail: "fail"}
	outputNames    = []string{fsm.OutputTruncate: "truncate", fsm.OutputEnd: "end"}
	networkNames   = []string{fsm.NetworkLoopback: "loopback", fsm.NetworkNone: "none"}
	roleNames      = []string{fsm.RoleViewer: "viewer", fsm.RoleSubmitter: "submitter", fsm.RoleOperator: "operator", fsm.RoleAdmin: "admin", fsm.RoleNode: "node"}
)

// nameOf is the word for a number; a number from a newer release has none.
func nameOf[N ~uint8](names []string, n N) string {
	if int(n) < len(names) {
		return names[n]
	}
	return ""
}

func numberOf[N ~uint8](names []string, name string) (N, bool) {
	for i, s := range names {
		if s == name && name != "" {
			return N(i), true
		}
	}
	return 0, false
}
