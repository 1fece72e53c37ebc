package client

import "time"

// TaskSpec says what to run and what it is granted. Durations are Go duration
// strings such as "90s"; sizes are bytes.
type TaskSpec struct {
	Name        string            `json:"name,omitempty" maxLength:"128" doc:"A name for people and filters; need not be unique"`
	Command     []string          `json:"command" minItems:"1" maxItems:"1024" doc:"Program and arguments; no shell is involved"`
	Env         map[string]string `json:"env,omitempty" doc:"Environment of the command; nothing is inherited"`
	WorkDir     string            `json:"work_dir,omitempty" maxLength:"4096" doc:"Working folder inside the sandbox; default /tmp"`
	Stdin       string            `json:"stdin,omitempty" doc:"Text for standard input"`
	StdinBase64 []byte            `json:"stdin_base64,omitempty" doc:"Bytes for standard input, base64; excludes stdin"`
	Mounts      []Mount           `json:"mounts,omitempty" maxItems:"64" doc:"Host paths granted to the task"`
	Resources   Resources         `json:"resources,omitempty" doc:"What the task needs and at most gets"`
	Priority    *int              `json:"priority,omitempty" minimum:"0" maximum:"100" doc:"Higher goes first; default 50"`
	Labels      map[string]string `json:"labels,omitempty" doc:"Keys and values for filters"`
	Constraints []Constraint      `json:"constraints,omitempty" maxItems:"32" doc:"Restrict the nodes by their labels"`
	Abilities   []string          `json:"abilities,omitempty" maxItems:"32" doc:"Sandbox abilities that the node must have"`
	Placement   string            `json:"placement,omitempty" enum:"spread,pack" doc:"Choice among the nodes that fit; default spread"`
	Timeouts    Timeouts          `json:"timeouts,omitempty"`
	Retry       Retry             `json:"retry,omitempty"`
	OnLost      string            `json:"on_lost,omitempty" enum:"retry,fail" doc:"When the worker is lost; default retry"`
	OutputLimit int64             `json:"output_limit_bytes,omitempty" minimum:"0" doc:"Output kept per attempt; default 64 MiB"`

	OnOutputLimit string   `json:"on_output_limit,omitempty" enum:"truncate,end" doc:"When more comes: drop it, or end the attempt; default truncate"`
	Scratch       *Scratch `json:"scratch,omitempty" doc:"A private writable folder; it ends with the attempt"`
	Secrets       []Secret `json:"secrets,omitempty" maxItems:"16" doc:"Files for the command alone; their values are never shown"`
	Network       string   `json:"network,omitempty" enum:"loopback,none" doc:"A loopback of its own, or nothing at all; default loopback"`
}

// Secret is a file below /run/secrets that the command alone can read. What the
// API shows has its name and no value.
type Secret struct {
	Name        string `json:"name" minLength:"1" maxLength:"64" pattern:"^[A-Za-z0-9_][A-Za-z0-9._-]*$" doc:"The file's name"`
	Value       string `json:"value,omitempty" maxLength:"16384" writeOnly:"true" doc:"Its text; needed, but never shown"`
	ValueBase64 []byte `json:"value_base64,omitempty" writeOnly:"true" doc:"Its bytes, base64; excludes value"`
}

// Scratch is a private writable folder in memory: it counts against the
// attempt's memory and is empty at the start of each attempt.
type Scratch struct {
	Target string `json:"target,omitempty" maxLength:"512" doc:"Absolute path in the sandbox; default /scratch"`
	Bytes  int64  `json:"bytes,omitempty" minimum:"0" doc:"What it holds; default half of the memory"`
	Inodes int    `json:"inodes,omitempty" minimum:"0" maximum:"1048576" doc:"Files and folders; default one per 16 KiB, at least 64"`
}

// Mount grants one host path to a task.
type Mount struct {
	Source   string `json:"source" minLength:"1" maxLength:"4096" doc:"Absolute path on the worker"`
	Target   string `json:"target,omitempty" maxLength:"4096" doc:"Absolute path in the sandbox; default the source"`
	Writable bool   `json:"writable,omitempty"`
}

// Resources bound an attempt; zero takes the default.
type Resources struct {
	CPUMillis   int   `json:"cpu_millis,omitempty" minimum:"0" maximum:"1024000" doc:"Thousandths of one CPU; default 500"`
	MemoryBytes int64 `json:"memory_bytes,omitempty" minimum:"0" doc:"Default 512 MiB"`
	PIDs        int   `json:"pids,omitempty" minimum:"0" maximum:"1048576" doc:"Processes and threads; default 64"`
	IOWeight    int   `json:"io_weight,omitempty" minimum:"0" maximum:"1000" doc:"Part of the disks where tasks compete; the kernel's default is 100"`
	IOReadBPS   int64 `json:"io_read_bps,omitempty" minimum:"0" doc:"Bytes per second read from each disk; default no limit"`
	IOWriteBPS  int64 `json:"io_write_bps,omitempty" minimum:"0" doc:"Bytes per second written to each disk; default no limit"`
}

// Constraint restricts the nodes by one of their labels.
type Constraint struct {
	Key    string   `json:"key" minLength:"1" maxLength:"128"`
	Op     string   `json:"op" enum:"in,not_in,exists,not_exists"`
	Values []string `json:"values,omitempty" maxItems:"64"`
}

// Timeouts end a task that waits or runs too long; empty is never.
type Timeouts struct {
	Queue Duration `json:"queue,omitempty" doc:"Longest time from submission to the start of an attempt"`
	Run   Duration `json:"run,omitempty" doc:"Longest run of one attempt"`
	Grace Duration `json:"grace,omitempty" doc:"Between SIGTERM and SIGKILL; default 5s"`
	CPU   Duration `json:"cpu,omitempty" doc:"Most CPU time of one attempt, its processes together; then it is killed"`
}

// Retry says how often a failed attempt is followed by another.
type Retry struct {
	Limit   int      `json:"limit,omitempty" minimum:"0" maximum:"1000" doc:"Further attempts after the first; default 0"`
	Backoff Duration `json:"backoff,omitempty" doc:"Before the first retry; doubles each time up to 1h; default 1s"`
}

// Task is a task as the API shows it.
type Task struct {
	ID          string      `json:"id" example:"t1042"`
	State       string      `json:"state" enum:"queued,running,succeeded,failed,cancelled,expired"`
	Spec        *TaskSpec   `json:"spec,omitempty" doc:"Left out of lists unless asked for"`
	Name        string      `json:"name,omitempty"`
	Owner       string      `json:"owner" doc:"Principal that submitted it"`
	Attempt     int         `json:"attempt" doc:"Number of the latest attempt, 0 before the first"`
	Node        string      `json:"node,omitempty" doc:"Node of the latest attempt"`
	SubmittedAt time.Time   `json:"submitted_at"`
	StartedAt   *time.Time  `json:"started_at,omitempty" doc:"Start of the latest attempt"`
	FinishedAt  *time.Time  `json:"finished_at,omitempty"`
	RetryAt     *time.Time  `json:"retry_at,omitempty" doc:"Not started again before"`
	Result      *TaskResult `json:"result,omitempty" doc:"The latest attempt's end, once there is one"`
	Index       uint64      `json:"index" doc:"Log index of the last change"`
}

// Terminal reports whether the task can never change again.
func (t *Task) Terminal() bool {
	switch t.State {
	case "succeeded", "failed", "cancelled", "expired":
		return true
	}
	return false
}

// TaskResult is how an attempt ended.
type TaskResult struct {
	Reason      string `json:"reason" enum:"exit,signal,timeout,out_of_memory,cancelled,lost,queue_timeout,start_failed,shutdown,cpu_time,output_limit,disk_limit"`
	ExitCode    *int   `json:"exit_code,omitempty" doc:"When the command exited by itself"`
	Signal      string `json:"signal,omitempty" doc:"When a signal ended it, as in SIGSEGV"`
	Message     string `json:"message,omitempty"`
	Usage       Usage  `json:"usage"`
	Tail        string `json:"tail,omitempty" doc:"Last output, at most 4 KiB; bytes that are not UTF-8 are replaced"`
	StdoutBytes int64  `json:"stdout_bytes"`
	StderrBytes int64  `json:"stderr_bytes"`
	Truncated   bool   `json:"truncated,omitempty" doc:"More output came than the limit kept"`
	// Weaker is empty unless an operator allowed the node to do without.
	Weaker []string `json:"weaker,omitempty" doc:"Walls that the sandbox did without, because its node lacks and is allowed to lack them"`

	NotEnforced []string `json:"not_enforced,omitempty" doc:"Limits of the spec that the worker's kernel cannot enforce"`
}

// Usage is what an attempt used.
type Usage struct {
	CPUSeconds      float64 `json:"cpu_seconds"`
	WallSeconds     float64 `json:"wall_seconds"`
	MemoryPeakBytes int64   `json:"memory_peak_bytes"`
}

// TaskList is one page of tasks.
type TaskList struct {
	Tasks  []Task `json:"tasks"`
	Cursor string `json:"cursor,omitempty" doc:"Pass it as cursor for the next page; empty on the last"`
	Index  uint64 `json:"index"`
}

// SubmitBatch is the body of a submission of many tasks: all or none.
type SubmitBatch struct {
	Tasks []TaskSpec `json:"tasks" minItems:"1" maxItems:"1000"`
}

// SubmitBatchResult gives the new tasks' IDs in the order of their specs.
type SubmitBatchResult struct {
	IDs   []string `json:"ids"`
	Index uint64   `json:"index"`
}

// StreamAnswer is one line of the answer of a submission stream: one per line
// of the request, in any order.
type StreamAnswer struct {
	Line    int      `json:"line" doc:"Number of the request's line, from 1"`
	ID      string   `json:"id,omitempty"`
	Index   uint64   `json:"index,omitempty"`
	Problem *Problem `json:"problem,omitempty" doc:"Why this line was refused"`
}
