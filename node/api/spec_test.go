package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/go-cmp/cmp"

	"holdfast/client"
	"holdfast/fsm"
)

func decodeSpec(t testing.TB, text string) *client.TaskSpec {
	t.Helper()
	var spec client.TaskSpec
	if p := decode([]byte(text), &spec); p != nil {
		t.Fatalf("%s: %v", text, p)
	}
	return &spec
}

func TestSpecDefaults(t *testing.T) {
	sub, p := submission(decodeSpec(t, echo), "body.")
	if p != nil {
		t.Fatal(p)
	}
	var spec fsm.Spec
	if err := fsm.Unmarshal(sub.Spec, &spec); err != nil {
		t.Fatal(err)
	}
	want := fsm.Spec{
		Command: []string{"echo"}, PIDs: 64, OutputLimitBytes: 64 << 20, KillGrace: 5 * time.Second,
		Shape: fsm.Shape{Priority: 50, CPUMillis: 500, MemoryBytes: 512 << 20},
	}
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Error(diff)
	}
	// The worker reads the shape in the spec, the scheduler the other one.
	if diff := cmp.Diff(sub.Shape, spec.Shape); diff != "" {
		t.Error(diff)
	}
}

const fullSpec = `{
 "name":"full","command":["/bin/sh","-c","echo \"hi\""],"env":{"B":"2","A":"1=1"},"work_dir":"/work","stdin":"in",
 "mounts":[{"source":"/usr/src"},{"source":"/data","target":"/in","writable":true}],
 "resources":{"cpu_millis":2000,"memory_bytes":1073741824,"pids":7,"io_weight":50,"io_read_bps":1048576,"io_write_bps":2097152},"priority":0,
 "labels":{"z":"1","a":""},"constraints":[{"key":"zone","op":"in","values":["b","a"]},{"key":"gpu","op":"exists"}],
 "abilities":["net","memory","net"],"placement":"pack","timeouts":{"queue":"1h","run":"90s","grace":"1s","cpu":"3s"},
 "retry":{"limit":3,"backoff":"2s"},"on_lost":"fail","output_limit_bytes":1024,"on_output_limit":"end","scratch":{"target":"/w","bytes":100000,"inodes":70},"network":"none"}`

func TestSpecRoundTrip(t *testing.T) {
	in := decodeSpec(t, fullSpec)
	sub, p := submission(in, "body.")
	if p != nil {
		t.Fatal(p)
	}
	if err := sub.Shape.Validate(); err != nil {
		t.Errorf("the state refuses it: %v", err)
	}
	var spec fsm.Spec
	if err := fsm.Unmarshal(sub.Spec, &spec); err != nil {
		t.Fatal(err)
	}
	want := decodeSpec(t, fullSpec)
	want.Mounts[0].Target = "/usr/src"
	want.Abilities = []string{"memory", "net"}
	out := specOf(&spec)
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	// What the API shows can be submitted again, and means the same.
	text, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	again, p := submission(decodeSpec(t, string(text)), "body.")
	if p != nil || string(again.Spec) != string(sub.Spec) {
		t.Errorf("submitted again it is another spec: %v", p)
	}
	bin := &client.TaskSpec{Command: []string{"a"}, StdinBase64: []byte{0xff, 0}}
	if sub, p = submission(bin, ""); p != nil {
		t.Fatal(p)
	}
	if err := fsm.Unmarshal(sub.Spec, &spec); err != nil || string(specOf(&spec).StdinBase64) != "\xff\x00" {
		t.Errorf("bytes for stdin: %v", err)
	}
}

// Every refusal names its place, and what is published in the description is
// what is enforced: huma's schema never refuses what we accept.
func TestSpecRefusals(t *testing.T) {
	registry := huma.NewMapRegistry("#/", huma.DefaultSchemaNamer)
	schema := registry.Schema(reflect.TypeFor[client.TaskSpec](), true, "TaskSpec")
	refusedBySchema := func(text string) bool {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		res := &huma.ValidateResult{}
		huma.Validate(registry, schema, huma.NewPathBuffer(nil, 0), huma.ModeWriteToServer, v, res)
		return len(res.Errors) > 0
	}
	for _, text := range []string{echo, fullSpec} {
		if refusedBySchema(text) {
			t.Errorf("the schema refuses %s", text)
		}
	}
	long := func(n int) string { return strings.Repeat("x", n) }
	list := func(item string, n int) string { return strings.TrimSuffix(strings.Repeat(item+",", n), ",") }
	with := func(field string) string { return `{"command":["a"],` + field + `}` }
	for _, c := range []struct{ text, location string }{
		{`{"command":[]}`, "command"},
		{`{"command":[""]}`, "command[0]"},
		{`{"command":["a","b\u0000"]}`, "command[1]"},
		{`{"command":[` + list(`"a"`, 1025) + `]}`, "command"},
		{with(`"name":"` + long(129) + `"`), "name"},
		{with(`"name":"a\nb"`), "name"},
		{with(`"env":{"":"x"}`), "env"},
		{with(`"env":{"1A":"x"}`), "env"},
		{with(`"env":{"A=B":"x"}`), "env"},
		{with(`"env":{"A\u0000":"x"}`), "env"},
		{with(`"env":{"A":"\u0000"}`), "env.A"},
		{with(`"work_dir":"tmp"`), "work_dir"},
		{with(`"work_dir":"/` + long(4096) + `"`), "work_dir"},
		{with(`"stdin":"a","stdin_base64":"aGk="`), "stdin"},
		{with(`"mounts":[{"source":""}]`), "mounts[0].source"},
		{with(`"mounts":[{"source":"usr"}]`), "mounts[0].source"},
		{with(`"mounts":[{"source":"/usr/../etc"}]`), "mounts[0].source"},
		{with(`"mounts":[{"source":"/usr/"}]`), "mounts[0].source"},
		{with(`"mounts":[{"source":"/a","target":"/"}]`), "mounts[0].target"},
		{with(`"mounts":[{"source":"/a","target":"b"}]`), "mounts[0].target"},
		{with(`"mounts":[{"source":"/a\u0000"}]`), "mounts[0].source"},
		{with(`"mounts":[{"source":"/a"},{"source":"/b","target":"/a"}]`), "mounts[1].target"},
		{with(`"mounts":[` + list(`{"source":"/a"}`, 65) + `]`), "mounts"},
		{with(`"resources":{"cpu_millis":-1}`), "resources.cpu_millis"},
		{with(`"resources":{"cpu_millis":1024001}`), "resources.cpu_millis"},
		{with(`"resources":{"memory_bytes":-1}`), "resources.memory_bytes"},
		{with(`"resources":{"memory_bytes":9223372036854775807}`), "resources.memory_bytes"},
		{with(`"resources":{"pids":1048577}`), "resources.pids"},
		{with(`"priority":-1`), "priority"},
		{with(`"priority":101`), "priority"},
		{with(`"labels":{"":"x"}`), "labels"},
		{with(`"labels":{"a":"` + long(257) + `"}`), "labels.a"},
		{with(`"constraints":[{"key":"","op":"in","values":["a"]}]`), "constraints[0].key"},
		{with(`"constraints":[{"key":"a","op":"is"}]`), "constraints[0].op"},
		{with(`"constraints":[{"key":"a","op":"in"}]`), "constraints[0].values"},
		{with(`"constraints":[{"key":"a","op":"exists","values":["x"]}]`), "constraints[0].values"},
		{with(`"constraints":[` + list(`{"key":"a","op":"exists"}`, 33) + `]`), "constraints"},
		{with(`"constraints":[{"key":"a","op":"in","values":[` + list(`"x"`, 65) + `]}]`), "constraints[0].values"},
		{with(`"abilities":[""]`), "abilities[0]"},
		{with(`"abilities":[` + list(`"x"`, 33) + `]`), "abilities"},
		{with(`"placement":"random"`), "placement"},
		{with(`"on_lost":"cry"`), "on_lost"},
		{with(`"timeouts":{"run":"100000h"}`), "timeouts.run"},
		{with(`"timeouts":{"grace":"2h"}`), "timeouts.grace"},
		{with(`"retry":{"limit":1001}`), "retry.limit"},
		{with(`"retry":{"limit":1,"backoff":"2h"}`), "retry.backoff"},
		{with(`"output_limit_bytes":-1`), "output_limit_bytes"},
		{with(`"on_output_limit":"stop"`), "on_output_limit"},
		{with(`"network":"proxy"`), "network"},
		{with(`"resources":{"io_weight":1001}`), "resources.io_weight"},
		{with(`"resources":{"io_read_bps":1000}`), "resources.io_read_bps"},
		{with(`"resources":{"io_write_bps":-1}`), "resources.io_write_bps"},
		{with(`"secrets":[{"name":"../x","value":"v"}]`), "secrets[0].name"},
		{with(`"secrets":[{"name":"x"}]`), "secrets[0].value"},
		{with(`"secrets":[{"name":"x","value":"v","value_base64":"AA=="}]`), "secrets[0].value"},
		{with(`"secrets":[{"name":"x","value":"v"},{"name":"x","value":"w"}]`), "secrets"},
		{with(`"mounts":[{"source":"/run"}],"secrets":[{"name":"x","value":"v"}]`), "secrets"},
		{with(`"timeouts":{"cpu":"90000h1s"}`), "timeouts.cpu"},
		{with(`"scratch":{"target":"here"}`), "scratch.target"},
		{with(`"scratch":{"bytes":1}`), "scratch.bytes"},
		{with(`"scratch":{"bytes":1099511627776}`), "scratch.bytes"},
		{with(`"scratch":{"inodes":-1}`), "scratch.inodes"},
		{with(`"mounts":[{"source":"/a","target":"/scratch"}],"scratch":{}`), "scratch.target"},
	} {
		_, p := submission(decodeSpec(t, c.text), "body.")
		if p == nil {
			t.Errorf("%.100s: accepted, and the schema refuses it: %v", c.text, refusedBySchema(c.text))
			continue
		}
		if p.code() != client.CodeInvalid || len(p.Errors) == 0 || p.Errors[0].Location != "body."+c.location {
			t.Errorf("%.100s: got %v, want a fault at %s", c.text, p, c.location)
		}
	}
}

// What the API accepts, the state accepts: else a line of a group would take
// the others with it.
func FuzzSubmission(f *testing.F) {
	f.Add([]byte(echo))
	f.Add([]byte(fullSpec))
	f.Fuzz(func(t *testing.T, in []byte) {
		var spec client.TaskSpec
		if decode(in, &spec) != nil {
			return
		}
		sub, p := submission(&spec, "")
		if p != nil {
			return
		}
		state := fsm.New(fsm.Limits{})
		cmd, err := fsm.NewCommand(fsm.CmdSubmit, fsm.RequestID{}, "p", fsm.Submit{Tasks: []fsm.Submission{sub}})
		if err != nil {
			t.Fatal(err)
		}
		a, err := state.Apply(1, fsm.EncodeBatch(1, [][]byte{cmd}))
		if err != nil || a.Results[0].Code != fsm.OK {
			t.Fatalf("%q: %v %+v", in, err, a)
		}
		v, _ := state.Task(1)
		if _, err := taskOf(v, true); err != nil {
			t.Fatal(err)
		}
	})
}

// guards P8
func TestSecretsAreNeverShown(t *testing.T) {
	const value = "word of mouth"
	in := decodeSpec(t, `{"command":["true"],"secrets":[{"name":"b","value":"`+value+`"},{"name":"a","value_base64":"`+base64.StdEncoding.EncodeToString([]byte(value))+`"}]}`)
	sub, p := submission(in, "body.")
	if p != nil {
		t.Fatal(p)
	}
	var spec fsm.Spec
	if err := fsm.Unmarshal(sub.Spec, &spec); err != nil {
		t.Fatal(err)
	}
	if len(spec.Secrets) != 2 || spec.Secrets[0].Name != "a" || string(spec.Secrets[1].Value) != value {
		t.Errorf("%+v", spec.Secrets)
	}
	task, err := taskOf(&fsm.TaskView{ID: 1, SpecBytes: sub.Spec}, true)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]client.Secret{{Name: "a"}, {Name: "b"}}, task.Spec.Secrets); diff != "" {
		t.Error(diff)
	}
	in.Secrets[0].Value = strings.Repeat(value, 2000)
	_, p = submission(in, "body.")
	if p == nil || strings.Contains(fmt.Sprint(p.Errors), value) {
		t.Errorf("%+v", p)
	}
}
