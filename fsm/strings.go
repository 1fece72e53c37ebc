package fsm

import "strconv"

func name(names []string, i int) string {
	if i < len(names) && names[i] != "" {
		return names[i]
	}
	return "unknown(" + strconv.Itoa(i) + ")"
}

var commandNames = []string{CmdSubmit: "submit", CmdCancel: "cancel", CmdAssign: "assign", CmdReport: "report",
	CmdTick: "tick", CmdRegisterNode: "register_node", CmdExpireWorker: "expire_worker", CmdDrainNode: "drain_node",
	CmdRemoveNode: "remove_node", CmdCreateToken: "create_token", CmdRevokeToken: "revoke_token",
	CmdAdmitNode: "admit_node", CmdInitCluster: "init_cluster", CmdSetFeatureLevel: "set_feature_level"}

// String returns the command's name, as in submit.
func (t CommandType) String() string {
	return name(commandNames, int(t))
}

var stateNames = []string{Queued: "queued", Running: "running", Succeeded: "succeeded",
	Failed: "failed", Cancelled: "cancelled", Expired: "expired"}

// String returns the state's name, as in queued.
func (s TaskState) String() string { return name(stateNames, int(s)) }

// ParseTaskState is the inverse of TaskState.String.
func ParseTaskState(s string) (TaskState, bool) {
	for i, n := range stateNames {
		if n == s && n != "" {
			return TaskState(i), true
		}
	}
	return 0, false
}

var reasonNames = []string{EndNone: "none", EndExit: "exit", EndSignal: "signal", EndTimeout: "timeout",
	EndOutOfMemory: "out_of_memory", EndCancelled: "cancelled", EndLost: "lost", EndQueueTimeout: "queue_timeout",
	EndStartFailed: "start_failed", EndShutdown: "shutdown",
	EndCPUTime: "cpu_time", EndOutputLimit: "output_limit", EndDiskLimit: "disk_limit"}

// String returns the reason's name, as in out_of_memory.
func (r EndReason) String() string { return name(reasonNames, int(r)) }

var codeNames = []string{OK: "ok", CodeInvalid: "invalid", CodeNotFound: "not_found", CodeConflict: "conflict",
	CodeQueueFull: "queue_full", CodeForbidden: "forbidden", CodeTokenBad: "token_bad",
	CodeTokenExpired: "token_expired", CodeTokenUsed: "token_used"}

// String returns the code's name, as in queue_full.
func (c Code) String() string { return name(codeNames, int(c)) }

var roleNames = []string{RoleViewer: "viewer", RoleSubmitter: "submitter", RoleOperator: "operator",
	RoleAdmin: "admin", RoleNode: "node"}

// String returns the role's name, as in admin.
func (r Role) String() string { return name(roleNames, int(r)) }

// ParseRole is the inverse of Role.String.
func ParseRole(s string) (Role, bool) {
	for i, n := range roleNames {
		if n == s && n != "" {
			return Role(i), true
		}
	}
	return 0, false
}

var changeNames = []string{ChangeQueued: "queued", ChangeAssigned: "assigned", ChangeRevoked: "revoked",
	ChangeTerminal: "terminal", ChangeNode: "node", ChangeToken: "token", ChangeCluster: "cluster"}

// String returns the kind's name, as in revoked.
func (k ChangeKind) String() string { return name(changeNames, int(k)) }
