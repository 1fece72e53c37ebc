package api

import (
	"bytes"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"holdfast/client"
	"holdfast/client/frames"
	"holdfast/fsm"
)

// anySpec draws specs with every field, valid or not.
func anySpec(t *rapid.T) client.TaskSpec {
	text := rapid.StringMatching(`[a-zA-Z0-9 /_.é-]{0,40}`)
	maybe := func(name string, draw func()) {
		if rapid.Bool().Draw(t, name) {
			draw()
		}
	}
	duration := func(name string) client.Duration {
		return client.Duration(rapid.Int64Range(0, int64(20*365*24*time.Hour)).Draw(t, name))
	}
	s := client.TaskSpec{Command: rapid.SliceOfN(text, 0, 5).Draw(t, "command")}
	maybe("name", func() { s.Name = text.Draw(t, "name") })
	maybe("env", func() {
		s.Env = rapid.MapOfN(rapid.StringMatching(`[A-Z_]{1,8}`), text, 0, 30).Draw(t, "env")
	})
	maybe("work_dir", func() { s.WorkDir = "/" + text.Draw(t, "work_dir") })
	maybe("stdin", func() { s.Stdin = text.Draw(t, "stdin") })
	maybe("stdin_base64", func() { s.StdinBase64 = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "stdin_base64") })
	maybe("mounts", func() {
		s.Mounts = []client.Mount{{Source: "/a", Target: "/b", Writable: rapid.Bool().Draw(t, "writable")}, {Source: "/c"}}
	})
	maybe("cpu", func() { s.Resources.CPUMillis = rapid.IntRange(0, 1<<30).Draw(t, "cpu") })
	maybe("memory", func() { s.Resources.MemoryBytes = rapid.Int64Min(0).Draw(t, "memory") })
	maybe("pids", func() { s.Resources.PIDs = rapid.IntRange(0, 5000).Draw(t, "pids") })
	maybe("priority", func() { p := rapid.IntRange(-1, 101).Draw(t, "priority"); s.Priority = &p })
	maybe("labels", func() { s.Labels = rapid.MapOfN(rapid.StringMatching(`[a-z]{1,8}`), text, 0, 5).Draw(t, "labels") })
	maybe("constraints", func() {
		s.Constraints = []client.Constraint{{Key: "zone", Op: "in", Values: []string{"a", "b"}}, {Key: "gpu", Op: "exists"}}
	})
	maybe("abilities", func() { s.Abilities = rapid.SliceOfN(rapid.StringMatching(`[a-z]{1,8}`), 0, 4).Draw(t, "abilities") })
	maybe("placement", func() { s.Placement = rapid.SampledFrom([]string{"spread", "pack", "x"}).Draw(t, "placement") })
	maybe("queue", func() { s.Timeouts.Queue = duration("queue") })
	maybe("run", func() { s.Timeouts.Run = duration("run") })
	maybe("grace", func() { s.Timeouts.Grace = duration("grace") })
	maybe("limit", func() { s.Retry.Limit = rapid.IntRange(0, 1001).Draw(t, "limit") })
	maybe("backoff", func() { s.Retry.Backoff = duration("backoff") })
	maybe("on_lost", func() { s.OnLost = rapid.SampledFrom([]string{"retry", "fail"}).Draw(t, "on_lost") })
	maybe("cpu_time", func() { s.Timeouts.CPU = client.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "cpu_time")) })
	maybe("on_output_limit", func() {
		s.OnOutputLimit = rapid.SampledFrom([]string{"truncate", "end"}).Draw(t, "on_output_limit")
	})
	maybe("scratch", func() {
		s.Scratch = &client.Scratch{Bytes: rapid.SampledFrom([]int64{0, 64 << 10, 1 << 20}).Draw(t, "bytes"), Inodes: rapid.IntRange(0, 1<<20).Draw(t, "inodes")}
		maybe("scratch_target", func() { s.Scratch.Target = "/" + rapid.StringMatching(`[a-z]{1,9}`).Draw(t, "scratch_target") })
	})
	maybe("io", func() {
		s.Resources.IOWeight = rapid.IntRange(0, 1000).Draw(t, "io_weight")
		s.Resources.IOReadBPS = rapid.SampledFrom([]int64{0, 1 << 20, 3 << 30}).Draw(t, "io_read")
		s.Resources.IOWriteBPS = rapid.SampledFrom([]int64{0, 1 << 20, 1 << 40}).Draw(t, "io_write")
	})
	maybe("network", func() { s.Network = rapid.SampledFrom([]string{"none", "loopback"}).Draw(t, "network") })
	maybe("secrets", func() {
		for i := range rapid.IntRange(0, 3).Draw(t, "secrets") {
			x := client.Secret{Name: string(rune('c' - i))}
			if rapid.Bool().Draw(t, "text") {
				x.Value = rapid.StringMatching(`[a-zé]{1,30}`).Draw(t, "value")
			} else {
				x.ValueBase64 = rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "value_base64")
			}
			s.Secrets = append(s.Secrets, x)
		}
	})
	maybe("output", func() { s.OutputLimit = rapid.Int64Min(0).Draw(t, "output") })
	return s
}

// The hand-made encodings are those of the state machine's encoder: another
// node, and a later release, reads them with its own.
func TestEncodingsAreTheStateMachines(t *testing.T) {
	version, err := submitVersion()
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 3).Draw(t, "tasks")
		var tasks []fsm.Submission
		var specs []fsm.Spec
		for range n {
			client := anySpec(t)
			var f faults
			spec := checkedSpec(&client, &f)
			if f.problem() != nil {
				return
			}
			raw, err := fsm.Marshal(&spec)
			if err != nil {
				t.Fatal(err)
			}
			tasks, specs = append(tasks, fsm.Submission{Shape: spec.Shape, Spec: raw}), append(specs, spec)
		}
		id := fsm.RequestID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		principal := rapid.StringMatching(`token:[a-z]{0,300}`).Draw(t, "principal")
		want, err := fsm.NewCommand(fsm.CmdSubmit, id, principal, fsm.Submit{Tasks: tasks})
		if err != nil {
			t.Fatal(err)
		}
		got := appendSubmit(nil, version, &id, principal, n)
		for i := range specs {
			var size int
			if got, size = appendTask(got, &specs[i]); size != len(tasks[i].Spec) {
				t.Errorf("a spec of %d bytes is said to have %d", len(tasks[i].Spec), size)
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("got\n%x\nwant\n%x", got, want)
		}
		checked++
	})
	if checked == 0 {
		t.Error("no spec was valid")
	}
}

// What scanSpec takes is what the library takes, with the same meaning; it
// takes what the SDK sends.
func TestScannedSpecs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := anySpec(t)
		raw, err := client.EncodeSpec(spec)
		if err != nil {
			t.Fatal(err)
		}
		sameSpec(t, raw)
		var got client.TaskSpec
		usual := len(spec.Mounts) == 0 && len(spec.Constraints) == 0 && (spec.Priority == nil || *spec.Priority >= 0) && spec.Command != nil &&
			spec.Resources.MemoryBytes <= 1<<62 && spec.OutputLimit <= 1<<62
		if scanSpec(string(raw), &got) != usual {
			t.Fatalf("taken %v, want %v: %x", !usual, usual, raw)
		}
		// Damaged, it is judged by the library, or means the same to both.
		if len(raw) > 0 {
			raw[rapid.IntRange(0, len(raw)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			sameSpec(t, raw)
		}
	})
}

type fataler interface{ Fatalf(string, ...any) }

func sameSpec(t fataler, raw []byte) {
	var got client.TaskSpec
	if !scanSpec(string(raw), &got) {
		return
	}
	want, err := client.DecodeSpec(raw)
	if err != nil {
		t.Fatalf("taken, but refused by the library: %v: %x", err, raw)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%x\n%s", raw, diff)
	}
}

func FuzzScanSpec(f *testing.F) {
	for _, s := range []client.TaskSpec{
		{Command: []string{"true"}},
		{Command: []string{"a", "b"}, Env: map[string]string{"A": "1"}, Labels: map[string]string{"x": "y"}, StdinBase64: []byte{1}, Retry: client.Retry{Limit: 3, Backoff: 5}},
	} {
		raw, err := client.EncodeSpec(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) { sameSpec(t, raw) })
}

// Requests that are scanned mean what the library makes of them.
func FuzzScanRequest(f *testing.F) {
	spec := cbor.RawMessage{0xa1, 0x67, 'c', 'o', 'm', 'm', 'a', 'n', 'd', 0x81, 0x61, 'x'}
	for _, r := range []frames.Request{{Number: 1, Method: 1, Specs: []cbor.RawMessage{spec, spec}, Key: "k"}, {Number: 1 << 40, Method: 9}} {
		b, err := frames.Append(nil, r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[fastHeader:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var q fastRequest
		c := scan{s: string(body)}
		if !c.request(&q) {
			return
		}
		var r frames.Request
		frame := append([]byte{byte(len(body) >> 24), byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
		if err := decodeFrame(frame, &r); err != nil {
			t.Fatalf("taken, but refused by the library: %v: %x", err, body)
		}
		same := r.Number == q.number && r.Method == q.method && r.Key == q.key && len(r.Specs) == len(q.specs)
		for i := range q.specs {
			same = same && string(r.Specs[i]) == q.specs[i]
		}
		if !same {
			t.Fatalf("%+v is taken for %+v", r, q)
		}
	})
}

func TestAnswersAreThoseOfTheCodec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := frames.Answer{
			Number: rapid.Uint64().Draw(t, "number"), Code: frames.Code(rapid.Uint8().Draw(t, "code")),
			First: rapid.Uint64().Draw(t, "first"), Count: rapid.Uint32().Draw(t, "count"), Index: rapid.Uint64().Draw(t, "index"),
			Detail: rapid.String().Draw(t, "detail"), RetryAfterMS: rapid.Uint32().Draw(t, "retry"),
		}
		want, err := frames.Append([]byte("before"), &a)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendAnswer([]byte("before"), &a); !bytes.Equal(got, want) {
			t.Fatalf("got %x, want %x", got, want)
		}
	})
}
