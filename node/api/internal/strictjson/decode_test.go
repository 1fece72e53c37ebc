package strictjson

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
)

type inner struct {
	Value string            `json:"value"`
	Free  map[string]string `json:"free,omitempty"`
}

type document struct {
	Name  string    `json:"name"`
	Count int       `json:"count,omitempty"`
	On    bool      `json:"on,omitempty"`
	Opt   *int      `json:"opt,omitempty"`
	Bytes []byte    `json:"bytes,omitempty"`
	At    time.Time `json:"at,omitzero"`
	List  []inner   `json:"list,omitempty"`
	One   inner     `json:"one,omitempty"`
}

func TestDecode(t *testing.T) {
	ok := []string{
		`{"name":"a"}`,
		` { "name" : "a" , "list" : [ { "value" : "x", "free": {"a":"b","c":"d"} } , {"value":"y"} ] } `,
		`{"na\u006de":"\ud83d\ude00","opt":0,"bytes":"aGk=","at":"2026-01-02T03:04:05Z"}`,
		`{"name":"\"\\\/\b\f\n\r\t","on":true,"count":-1,"list":[],"one":{}}`,
	}
	for _, in := range ok {
		var got, want document
		if err := Decode([]byte(in), &got); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if err := json.Unmarshal([]byte(in), &want); err != nil {
			t.Fatal(err)
		}
		if a, b := marshal(t, got), marshal(t, want); a != b {
			t.Errorf("%s: decoded to %s, want %s", in, a, b)
		}
	}
	deep := strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1)
	many := `{"value":"v","free":{` + func() string {
		var b strings.Builder
		for i := range 40 {
			b.WriteString(`"k` + strconv.Itoa(i) + `":"",`)
		}
		return b.String()
	}() + `"k1":""}}`
	bad := []struct{ in, path, message string }{
		{``, "", "ends too early"},
		{`{`, "", "want a key"},
		{`{"name":"a"`, "", "want , or }"},
		{`{"name":"a"} x`, "", "more data"},
		{`{"name":"a"}{}`, "", "more data"},
		{`[]`, "", "want an object, got a list"},
		{`{"name":1}`, "name", "want a string, got a number"},
		{`{"name":"a","count":"1"}`, "count", "want a number"},
		{`{"name":"a","count":1.5}`, "count", "whole number"},
		{`{"name":"a","count":1e40}`, "count", "whole number"},
		{`{"name":"a","on":1}`, "on", "want true or false"},
		{`{"name":null}`, "name", "null"},
		{`{"name":"a","opt":null}`, "opt", "null"},
		{`{"name":"a","name":"b"}`, "", `"name" comes twice`},
		{`{"name":"a","n\u0061me":"b"}`, "", `"name" comes twice`},
		{`{"name":"a","Name":"b"}`, "", `unknown field "Name"`},
		{`{"name":"a","extra":1}`, "", `unknown field "extra"`},
		{`{"list":[{"value":"a"},{"valu":"b"}]}`, "list[1]", `unknown field "valu"`},
		{`{"one":{"free":{"a":"1","a":"2"}}}`, "one.free", `"a" comes twice`},
		{`{"one":{"free":{"a":1}}}`, "one.free.a", "want a string"},
		{`{"one":` + many + `}`, "one.free", `"k1" comes twice`},
		{"{\"name\":\"\xff\"}", "", "UTF-8"},
		{`{"name":"\ud83d"}`, "name", "surrogate"},
		{`{"name":"\ude00"}`, "name", "surrogate"},
		{`{"name":"\ud83dx\ude00"}`, "name", "surrogate"},
		{`{"name":"\u12"}`, "name", "hexadecimal"},
		{`{"name":"\x"}`, "name", "escape"},
		{"{\"name\":\"a\nb\"}", "name", "control character"},
		{`{"name":"a`, "name", "within a string"},
		{`{"name":"a",}`, "", "want a key"},
		{`{"list":[1 2]}`, "list[0]", "want an object"},
		{`{"list":[{} {}]}`, "list", "want , or ]"},
		{`{"on":tru}`, "", "not JSON"},
		{`{"count":01}`, "", "not JSON"},
		{`{'name':1}`, "", "want a key"},
		{`{"bytes":"*"}`, "", "base64"},
		{`{"at":"yesterday"}`, "", "yesterday"},
		{`{"name":` + deep + `}`, "name", "want a string"},
	}
	for _, c := range bad {
		var v document
		err := Decode([]byte(c.in), &v)
		if err == nil {
			t.Errorf("%.80s: accepted", c.in)
			continue
		}
		e, isError := err.(*Error)
		if !isError || e.Path != c.path || !strings.Contains(e.Message, c.message) {
			t.Errorf("%.80s: got %#v, want path %q and %q", c.in, err, c.path, c.message)
		}
	}
	var free any
	if err := Decode([]byte(deep), &free); err == nil || !strings.Contains(err.Error(), "nested deeper") {
		t.Errorf("deep nesting: got %v", err)
	}
	if err := Decode([]byte(deep[1:len(deep)-1]), &free); err != nil {
		t.Errorf("nesting at the bound: %v", err)
	}
	if err := Decode([]byte(`{}`), document{}); err == nil {
		t.Error("a value that is no pointer was accepted")
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// twice is the reference: an independent reader of tokens that reports whether
// an object of the document has a key twice.
func twice(d *json.Decoder) bool {
	tok, err := d.Token()
	if err != nil {
		return false
	}
	open, ok := tok.(json.Delim)
	if !ok {
		return false
	}
	found := false
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return found
			}
			name, _ := key.(string)
			found = found || seen[name]
			seen[name] = true
		}
		found = twice(d) || found
	}
	if _, err := d.Token(); err != nil && err != io.EOF {
		return found
	}
	return found
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"name":"a"}`, `{"name":"a","name":"b"}`, `{"list":[{"value":"\ud83d\ude00"}]}`,
		`[[[[]]]]`, `{"a":{"b":1,"\u0062":2}}`, `{"one":{"free":{"a":"b"}},"count":-0.0e1}`, "\xff", `nul`, `"\`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var free any
		if err := Decode(in, &free); err == nil {
			if !json.Valid(in) {
				t.Fatalf("accepted what is not JSON: %q", in)
			}
			if twice(json.NewDecoder(bytes.NewReader(in))) {
				t.Fatalf("accepted a key twice: %q", in)
			}
		}
		var doc document
		if err := Decode(in, &doc); err != nil {
			return
		}
		if err := Decode(in, &free); err != nil {
			t.Fatalf("accepted as a document and refused as a value: %q: %v", in, err)
		}
		again, err := json.Marshal(doc)
		if err != nil {
			t.Skip() // a year out of range
		}
		d := json.NewDecoder(bytes.NewReader(in))
		d.DisallowUnknownFields()
		var other document
		if err := d.Decode(&other); err != nil || marshal(t, other) != string(again) {
			t.Fatalf("another reader understands %q as %+v (%v), not %+v", in, other, err, doc)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	in := []byte(`{"name":"build","list":[{"value":"sh"},{"value":"-c"}],"one":{"value":"x","free":{"a":"b","c":"d"}}}`)
	b.ReportAllocs()
	for b.Loop() {
		var v document
		if err := Decode(in, &v); err != nil {
			b.Fatal(err)
		}
	}
}
