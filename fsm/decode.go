package fsm

// envelope is a Command as it is read: everything aliases the input.
type envelope struct {
	version   uint8
	kind      CommandType
	requestID RequestID
	principal []byte
	body      []byte
}

// decodeEnvelope reads a command up to its body. The body is the last field,
// so it is what is left: decoding it proves that it is one whole item.
func decodeEnvelope(b []byte) (e envelope, err error) {
	w := wire{b: b}
	if len(b) > MaxCommandBytes {
		w.fail("a command of %d bytes is over the limit of %d", len(b), MaxCommandBytes)
	}
	f := w.fields()
	for f.next(&w) {
		switch f.key {
		case 1:
			e.version = uint8(w.uint(255))
		case 2:
			e.kind = CommandType(w.uint(255))
		case 3:
			if id := w.bytes(len(e.requestID)); len(id) == len(e.requestID) {
				e.requestID = RequestID(id)
			} else {
				w.fail("a request ID has %d bytes, want %d", len(id), len(e.requestID))
			}
		case 4:
			e.principal = w.text(maxNameBytes)
		case 5:
			e.body = b[w.off:]
			if f.left == 0 {
				return e, w.err
			}
			w.raw(len(b))
		default:
			f.unknown(&w, "the command")
		}
	}
	return e, w.end()
}

// submission is a Submission as it is read.
type submission struct {
	encodedShape []byte
	spec         []byte
	shape        *shape
}

// decodeSubmit appends a Submit's tasks, which alias the input, to subs.
func decodeSubmit(b []byte, subs []submission) ([]submission, error) {
	w := wire{b: b}
	f := w.fields()
	for f.next(&w) {
		if f.key != 1 {
			f.unknown(&w, "submit")
			break
		}
		for n := w.array(MaxTasksPerSubmit); n > 0 && w.err == nil; n-- {
			var s submission
			sf := w.fields()
			for sf.next(&w) {
				switch sf.key {
				case 1:
					s.encodedShape = w.raw(maxShapeBytes)
				case 2:
					s.spec = w.raw(MaxSpecBytes)
				default:
					sf.unknown(&w, "a submission")
				}
			}
			if w.err == nil && (s.encodedShape == nil || len(s.spec) == 0 || s.spec[0]>>5 != majorMap) {
				w.fail("a submission lacks its shape or its spec")
			}
			subs = append(subs, s)
		}
	}
	if w.err == nil && len(subs) == 0 {
		w.fail("submit has no task")
	}
	return subs, w.end()
}

// decodeAssign appends an Assign's assignments to as. Node IDs alias the
// input through intern, which maps them to known nodes.
func decodeAssign(b []byte, as []assignment, find func([]byte) *node) ([]assignment, error) {
	w := wire{b: b}
	f := w.fields()
	for f.next(&w) {
		if f.key != 1 {
			f.unknown(&w, "assign")
			break
		}
		for n := w.array(MaxTasksPerSubmit); n > 0 && w.err == nil; n-- {
			var a assignment
			af := w.fields()
			for af.next(&w) {
				switch af.key {
				case 1:
					a.task = TaskID(w.uint(maxTaskID))
				case 2:
					a.attempt = uint32(w.uint(1<<32 - 1))
				case 3:
					a.node = find(w.text(maxNameBytes))
				default:
					af.unknown(&w, "an assignment")
				}
			}
			as = append(as, a)
		}
	}
	if w.err == nil && len(as) == 0 {
		w.fail("assign has no assignment")
	}
	return as, w.end()
}

// assignment is an Assignment as it is read; node is nil if unknown.
type assignment struct {
	task    TaskID
	attempt uint32
	node    *node
}

// maxTaskID keeps IDs far from overflow.
const maxTaskID = 1 << 62

// decodeReport reads a Report, its reports appended to rs. Only strings and
// tails of results are copied out of the input.
func decodeReport(b []byte, rs []AttemptReport) (node []byte, incarnation uint64, _ []AttemptReport, err error) {
	w := wire{b: b}
	f := w.fields()
	for f.next(&w) {
		switch f.key {
		case 1:
			node = w.text(maxNameBytes)
		case 2:
			incarnation = w.uint(1<<64 - 1)
		case 3:
			for n := w.array(MaxTasksPerSubmit); n > 0 && w.err == nil; n-- {
				var r AttemptReport
				rf := w.fields()
				for rf.next(&w) {
					switch rf.key {
					case 1:
						r.Task = TaskID(w.uint(maxTaskID))
					case 2:
						r.Attempt = uint32(w.uint(1<<32 - 1))
					case 3:
						r.Result = w.attemptResult()
					default:
						rf.unknown(&w, "an attempt's report")
					}
				}
				if w.err == nil && !reportable(r.Result.Reason) {
					w.fail("%s is not a reason that a worker reports", r.Result.Reason)
				}
				rs = append(rs, r)
			}
		default:
			f.unknown(&w, "report")
		}
	}
	if w.err == nil && len(rs) == 0 {
		w.fail("report is empty")
	}
	return node, incarnation, rs, w.end()
}

// reportable says whether a worker can say that an attempt ended so.
func reportable(r EndReason) bool {
	return r > EndNone && r <= lastReason && r != EndQueueTimeout
}

func (w *wire) attemptResult() (r AttemptResult) {
	f := w.fields()
	for f.next(w) {
		switch f.key {
		case 1:
			r.Reason = EndReason(w.uint(255))
		case 2:
			r.ExitCode = int32(w.int(1<<31 - 1))
		case 3:
			r.Signal = string(w.text(maxSignalBytes))
		case 4:
			r.Message = string(w.text(MaxMessageBytes))
		case 5:
			r.CPUTime = w.duration()
		case 6:
			r.MemoryPeakBytes = w.uint(1<<64 - 1)
		case 7:
			r.WallTime = w.duration()
		case 8:
			r.Tail = append([]byte(nil), w.bytes(MaxTailBytes)...)
		case 9:
			r.StdoutBytes = w.int(1<<63 - 1)
		case 10:
			r.StderrBytes = w.int(1<<63 - 1)
		case 11:
			r.Truncated = w.bool()
		case 12:
			r.Weaker = w.texts(maxWeaker, maxWeakerBytes)
		case 13:
			r.NotEnforced = w.texts(maxNotEnforced, maxNotEnforcedBytes)
		default:
			f.unknown(w, "an attempt's result")
		}
	}
	if r.CPUTime < 0 || r.WallTime < 0 || r.StdoutBytes < 0 || r.StderrBytes < 0 {
		w.fail("an attempt's result has a negative measure")
	}
	return r
}

// appendAttemptResult is the inverse, and writes what the library would.
func appendAttemptResult(b []byte, r *AttemptResult) []byte {
	f := newFieldWriter(b)
	f.key(1)
	f.b = appendHead(f.b, majorUint, uint64(r.Reason))
	f.int(2, int64(r.ExitCode))
	f.text(3, r.Signal)
	f.text(4, r.Message)
	f.int(5, int64(r.CPUTime))
	f.uint(6, r.MemoryPeakBytes)
	f.int(7, int64(r.WallTime))
	f.bytes(8, r.Tail)
	f.int(9, r.StdoutBytes)
	f.int(10, r.StderrBytes)
	f.bool(11, r.Truncated)
	f.texts(12, r.Weaker)
	f.texts(13, r.NotEnforced)
	return f.done()
}
