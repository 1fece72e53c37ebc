package sandbox

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"unsafe"
)

// Two conversations over SOCK_SEQPACKET: the node and the launcher (JSON
// request, JSON answer; descriptors beside them), and the node and each init
// (one task message down; reports up). The launcher never sees a command, an
// environment or a byte of input.

// request asks the launcher for one init. Its descriptors are, in order: the
// init's end of its socket, the command's three streams, Cgroups cgroup.procs
// files, one mount per entry of Mounts.
type request struct {
	Kind     string        `json:"kind"`
	UID      int           `json:"uid"` // within the launcher's user namespace, never 0
	Cgroups  int           `json:"cgroups,omitempty"`
	Mounts   []mountTarget `json:"mounts,omitempty"`
	TmpBytes int64         `json:"tmp_bytes,omitempty"`
	Network  Network       `json:"network,omitempty"`
	Off      control       `json:"off,omitempty"`
	OwnerUID uint32        `json:"owner_uid,omitempty"` // kindOwner: on-disk IDs to map to UID
	OwnerGID uint32        `json:"owner_gid,omitempty"`
	Explain  bool          `json:"explain,omitempty"` // name Step of what would be run, and run nothing
	Step     int           `json:"step,omitempty"`
	Until    int64         `json:"until,omitempty"` // kindHold: ns of CLOCK_BOOTTIME
}

// Kinds of request.
const (
	kindSandbox = "sandbox" // an init; answered with its pidfd
	kindOwner   = "owner"   // a user namespace for an idmapped mount; answered with it
	kindHold    = "hold"    // the deadline of every sandbox
	kindAttach  = "attach"  // grants for a waiting init; its pidfd comes in the place of streams and cgroups
)

// numStreams are a command's descriptors.
const numStreams = 3

type mountTarget struct {
	Target   string `json:"target"`
	Dir      bool   `json:"dir"`
	Writable bool   `json:"writable"`
}

// answer carries a descriptor when Err is empty and the kind has one.
type answer struct {
	Err  string `json:"err,omitempty"`
	Step string `json:"step,omitempty"`
}

// maxControlMessage bounds a request or an answer: 64 targets of 4 KiB, each
// byte at most doubled by JSON's escapes (control characters are refused).
const maxControlMessage = 640 << 10

// Kinds of report.
const (
	reportReady      = 1 + iota // policy is in force; the command's process waits for the task
	reportSetup                 // a step of the script failed: Step, Errno
	reportCommand               // the pidfd of the command's process; comes beside reportReady
	reportExecFailed            // Step is the stage, Errno
	reportExited                // Status, usage
)

// Stages of starting the command.
const (
	stageMessage = 1 + iota
	stageFork
	stageWorkDir
	stageExec
	stageGone // no task came; not reported
)

// The step of reportExited: whether the command left processes behind.
const (
	leftPerhaps = iota
	leftNothing
)

// maxZombies bounds how many dead orphans an init reaps before it gives up
// looking; the kernel reaps the rest.
const maxZombies = 4096

// report is what an init says, in host byte order.
type report struct {
	Kind   int32
	Step   int32
	Errno  int32
	Status int32 // wait status
	User   int64 // µs
	System int64 // µs
	MaxRSS int64 // KiB
}

const reportSize = int(unsafe.Sizeof(report{}))

func decodeReport(b []byte) (r report, ok bool) {
	if len(b) != reportSize {
		return r, false
	}
	_, err := binary.Decode(b, binary.NativeEndian, &r)
	return r, err == nil
}

// maxCandidates bounds the directories of PATH that are tried.
const maxCandidates = 64

const defaultPath = "/usr/local/bin:/usr/bin:/bin"

// The head of a task message are three counts, its length, and flags.
const (
	taskHead   = 5 * 4
	taskJoined = 1 // stderr goes where stdout goes
)

// encodeTask lays out the message for an init: the head, then the work folder,
// the candidates for the program, arguments and environment, each ended by NUL.
// It is walked without copying.
func encodeTask(s Spec, joined bool) ([]byte, error) {
	cands := candidates(s.Command[0], s.Env)
	flags := 0
	if joined {
		flags = taskJoined
	}
	b := make([]byte, taskHead, 4096)
	for i, n := range []int{len(cands), len(s.Command), len(s.Env), 0, flags} {
		binary.NativeEndian.PutUint32(b[4*i:], uint32(n))
	}
	b = append(append(b, s.WorkDir...), 0)
	for _, list := range [][]string{cands, s.Command, s.Env} {
		for _, v := range list {
			b = append(append(b, v...), 0)
		}
	}
	if len(b) > msgSize {
		return nil, invalid("Command", "takes %d bytes with PATH's folders, at most %d", len(b), msgSize)
	}
	binary.NativeEndian.PutUint32(b[12:], uint32(len(b)))
	return b, nil
}

// candidates lists the paths to try for a program, as execvp would.
func candidates(program string, env []string) []string {
	if strings.Contains(program, "/") {
		return []string{program}
	}
	search := defaultPath
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	var out []string
	for dir := range strings.SplitSeq(search, ":") {
		if len(out) < maxCandidates && path.IsAbs(dir) && len(dir)+len(program) < maxPath {
			out = append(out, path.Join(dir, program))
		}
	}
	if len(out) == 0 {
		out = []string{"/nonexistent/" + path.Base(program)}
	}
	return out
}

func encodeJSON(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err == nil && len(b) > maxControlMessage {
		err = fmt.Errorf("message of %d bytes to the launcher, at most %d", len(b), maxControlMessage)
	}
	return b, err
}
