// Package sandbox runs one attempt of a task in isolation on Linux: spec in,
// streams, result out. It knows nothing of clusters.
//
// # Who does what
//
//	node ──── control socket ────> launcher ──── clone3 ────> init (PID 1) ── fork, exec ──> command
//	  └──────────── one socket per attempt ─────────────────────┘
//
// The node opens what needs the host's root: the grants, as detached mounts,
// and the cgroups, as descriptors. It never forks.
//
// The launcher is this program once more, started early. It is root of its own
// user namespace and nobody on the host, and PID 1 of its own pid namespace: it
// dies with the node, and every sandbox dies with it. For each attempt it
// writes a script, a table of system calls, and clones an init that executes
// the table.
//
// The init enters the cgroups, builds and pivots into a root of its own, gives
// up user, capabilities and system calls, and only then asks the node for the
// task. So policy is in force before a byte of the task is read, and no other
// process but the node and this init ever sees the command and its environment.
// When the command ends the init exits, and the kernel kills the rest; where there
// is no rest, the init reports and waits to be killed.
//
// A pool keeps some inits ready, as many as were lately asked for at a time
// (Config.Warm to Config.WarmMax), with the limits of the last task. Each serves
// one attempt: other limits are set, grants attached and the size of /tmp changed
// when the task comes. Where the pool is empty, or fails, or a grant is writable
// outside of /tmp, the same code runs cold.
//
// A node that is stopped, not dead, cannot kill anything: Extend gives the
// launcher a deadline, at which it takes every sandbox along.
//
// # The walls
//
// Each is tested with the others up, and most also by switching it off:
// namespaces (user, pid, mount, net, ipc, uts, cgroup, time) and a pivoted
// read-only root; a host user per attempt and a user namespace with only that one; no
// capability in any set, locked securebits, no_new_privs; no user namespaces
// below, twice (a limit of zero, and seccomp); Landlock behind the read-only
// mounts; seccomp against what is left of the kernel's surface; memory with
// swap and tmpfs, CPU and processes by cgroups. Prove has this program try to
// get out of real sandboxes before a node takes tasks, and Examine for whoever
// asks whether a machine can isolate.
//
// Known edges: no quota on a writable grant; sockets and FIFOs in a grant work
// where their mode allows; the command sees the machine's /proc/meminfo,
// /proc/cpuinfo and the like; locks on system files, and inotify, reach across
// sandboxes; a source on a hung file system holds up Start.
//
// docs/isolation.md lists the attacks that are tried, each with the walls that
// hold it. A test keeps it true.
//
// # Invariants
//
//   - The host's user 0 is mapped into no namespace. Every living attempt has a
//     host user ID of its own, and in its user namespace that is the only one.
//   - The namespaces of mounts, network and processes belong to the launcher's
//     user namespace, where the command's user is nobody.
//   - A path of the host is looked up once, without following symbolic links;
//     afterwards only descriptors are used.
//   - After Wait no process of the task is left, and no goroutine holds its
//     streams. Its init, mounts and cgroups go a moment later; Close waits.
//     Nothing is ever written to the host's disk, but by the command in its
//     writable grants.
//   - What cannot be enforced makes Start fail. Three walls that stand behind
//     others may be missing (weaker.go), each only if Config.AllowMissing names
//     it; then every Result says so.
//
// # Goroutines and locks
//
// A Sandbox has one goroutine (watch) until its end, and one per stream; a token
// (stream.busy) says which of them has the stream's content in hand. A
// Runtime has one per launcher, bound to the thread that started it,
// one that passes deadlines on to it, and one that fills the pool, from the first
// Start to Close.
// Lock order: Runtime.launching, Runtime.mu; launcherClient.mu and Sandbox.mu
// are leaves, held while none of the others is taken.
//
// # After a raw fork
//
// The init is the child of a raw clone3 of a Go process, and has nothing of it
// but code, constants and one image (image.go, memory.go): any growth of the
// stack, allocation or look at a global variable would be fatal. All of it is in
// init.go, all nosplit. Whatever can be decided before the fork is decided in
// script.go.
//
// The command's process is cloned from the init beforehand and shares its memory
// while it waits for the task. Each runs on a stack of its own in the image.
//
// A few lines of assembly per architecture (that clone) and the table of system
// calls tie the package to amd64 and arm64.
package sandbox
