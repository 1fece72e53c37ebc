package fsm

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// A bad command is refused with a result, and the state is as it was.
// guards P10
func TestBadCommandsLeaveTheStateUntouched(t *testing.T) {
	r := scene(t)
	encode := func(v any) []byte {
		b, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	type m = map[int]any
	okSpec := spec(t, "x")
	shape := func(change func(*Shape)) any {
		s := Shape{CPUMillis: 1}
		change(&s)
		return Submit{[]Submission{{Shape{}, okSpec}, {s, okSpec}}}
	}
	withSpec := func(spec []byte) any { return Submit{[]Submission{{Shape{}, spec}}} }
	long := strings.Repeat("x", 300)
	deep := append(bytes.Repeat([]byte{0x81}, 40), 0)
	for name, c := range map[string]struct {
		kind CommandType
		body any // []byte = encoded already
	}{
		"no body":              {CmdSubmit, []byte{}},
		"not a map":            {CmdSubmit, []byte{0x80}},
		"no tasks":             {CmdSubmit, Submit{}},
		"no shape":             {CmdSubmit, m{1: []any{m{2: m{}}}}},
		"no spec":              {CmdSubmit, m{1: []any{m{1: m{}}}}},
		"spec is no map":       {CmdSubmit, withSpec([]byte{0x05})},
		"spec too large":       {CmdSubmit, withSpec(encode(m{5: make([]byte, MaxSpecBytes)}))},
		"spec too deep":        {CmdSubmit, slices.Concat([]byte{0xa1, 0x01, 0x81, 0xa2, 0x01, 0xa0, 0x02, 0xa1, 0x01}, deep)},
		"huge array":           {CmdSubmit, []byte{0xa1, 0x01, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		"huge map":             {CmdSubmit, []byte{0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		"huge text":            {CmdReport, []byte{0xa1, 0x01, 0x7b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		"indefinite":           {CmdSubmit, []byte{0xbf, 0x01, 0x80, 0xff}},
		"key twice":            {CmdAssign, []byte{0xa2, 0x01, 0x80, 0x01, 0x80}},
		"rare key twice":       {CmdDrainNode, []byte{0xa2, 0x01, 0x62, 'n', '1', 0x01, 0x62, 'n', '2'}},
		"long form":            {CmdAssign, []byte{0xa1, 0x18, 0x01, 0x80}},
		"trailing byte":        {CmdExpireWorker, append(encode(ExpireWorker{"n1", 1}), 0)},
		"trailing byte hot":    {CmdAssign, append(encode(Assign{[]Assignment{{4, 2, "n1"}}}), 0)},
		"tag":                  {CmdCancel, []byte{0xa1, 0x01, 0x81, 0xc1, 0x01}},
		"shape not canonical":  {CmdSubmit, []byte{0xa1, 0x01, 0x81, 0xa2, 0x01, 0xa1, 0x01, 0x00, 0x02, 0xa0}},
		"priority":             {CmdSubmit, shape(func(s *Shape) { s.Priority = 101 })},
		"negative timeout":     {CmdSubmit, shape(func(s *Shape) { s.QueueTimeout = -1 })},
		"long timeout":         {CmdSubmit, shape(func(s *Shape) { s.RunTimeout = math.MaxInt64 })},
		"long backoff":         {CmdSubmit, shape(func(s *Shape) { s.RetryBackoff = MaxDuration + 1 })},
		"retries":              {CmdSubmit, shape(func(s *Shape) { s.RetryLimit = 1 << 30 })},
		"memory":               {CmdSubmit, shape(func(s *Shape) { s.MemoryBytes = 1 << 63 })},
		"cpu":                  {CmdSubmit, shape(func(s *Shape) { s.CPUMillis = math.MaxUint32 })},
		"placement":            {CmdSubmit, shape(func(s *Shape) { s.Placement = 9 })},
		"on lost":              {CmdSubmit, shape(func(s *Shape) { s.OnLost = 9 })},
		"labels out of order":  {CmdSubmit, shape(func(s *Shape) { s.Labels = []Label{{"b", ""}, {"a", ""}} })},
		"label key":            {CmdSubmit, shape(func(s *Shape) { s.Labels = []Label{{"", ""}} })},
		"label value":          {CmdSubmit, shape(func(s *Shape) { s.Labels = []Label{{"a", long}} })},
		"many labels":          {CmdSubmit, shape(func(s *Shape) { s.Labels = make([]Label, 65) })},
		"many abilities":       {CmdSubmit, shape(func(s *Shape) { s.Abilities = make([]string, 65) })},
		"ability":              {CmdSubmit, shape(func(s *Shape) { s.Abilities = []string{""} })},
		"many constraints":     {CmdSubmit, shape(func(s *Shape) { s.Constraints = make([]Constraint, 33) })},
		"operator":             {CmdSubmit, shape(func(s *Shape) { s.Constraints = []Constraint{{"a", 0, nil}} })},
		"no values":            {CmdSubmit, shape(func(s *Shape) { s.Constraints = []Constraint{{"a", In, nil}} })},
		"needless values":      {CmdSubmit, shape(func(s *Shape) { s.Constraints = []Constraint{{"a", Exists, []string{"x"}}} })},
		"cancel nothing":       {CmdCancel, Cancel{}},
		"cancel unknown":       {CmdCancel, Cancel{[]TaskID{math.MaxUint64}}},
		"assign nothing":       {CmdAssign, Assign{}},
		"report nothing":       {CmdReport, Report{"n1", 1, nil}},
		"report reason":        {CmdReport, Report{"n1", 1, []AttemptReport{{4, 1, AttemptResult{Reason: EndQueueTimeout}}}}},
		"report no reason":     {CmdReport, Report{"n1", 1, []AttemptReport{{4, 1, AttemptResult{}}}}},
		"report future reason": {CmdReport, Report{"n1", 1, []AttemptReport{{4, 1, AttemptResult{Reason: 99}}}}},
		"report negative":      {CmdReport, Report{"n1", 1, []AttemptReport{{4, 1, AttemptResult{Reason: EndExit, CPUTime: -1}}}}},
		"report tail":          {CmdReport, Report{"n1", 1, []AttemptReport{{4, 1, AttemptResult{Reason: EndExit, Tail: make([]byte, MaxTailBytes+1)}}}}},
		"report message":       {CmdReport, Report{"n1", 1, []AttemptReport{{4, 1, AttemptResult{Reason: EndExit, Message: strings.Repeat("x", MaxMessageBytes+1)}}}}},
		"report many weaker":   {CmdReport, Report{"n1", 1, []AttemptReport{{4, 1, AttemptResult{Reason: EndExit, Weaker: slices.Repeat([]string{"x"}, maxWeaker+1)}}}}},
		"report weaker":        {CmdReport, Report{"n1", 1, []AttemptReport{{4, 1, AttemptResult{Reason: EndExit, Weaker: []string{long}}}}}},
		"report weaker empty":  {CmdReport, Report{"n1", 1, []AttemptReport{{4, 1, AttemptResult{Reason: EndExit, Weaker: []string{""}}}}}},
		"report weaker none":   {CmdReport, m{1: "n1", 2: 1, 3: []m{{1: 4, 2: 1, 3: m{1: 1, 12: []string{}}}}}},
		"report unknown node":  {CmdReport, Report{"n9", 1, []AttemptReport{{4, 1, AttemptResult{Reason: EndExit}}}}},
		"report incarnation":   {CmdReport, Report{"n1", 2, []AttemptReport{{4, 1, AttemptResult{Reason: EndExit}}}}},
		"tick with a body":     {CmdTick, m{}},
		"register no ID":       {CmdRegisterNode, RegisterNode{Node{Incarnation: 1}}},
		"register no start":    {CmdRegisterNode, RegisterNode{Node{ID: "n1"}}},
		"register name":        {CmdRegisterNode, RegisterNode{Node{ID: "n1", Incarnation: 2, Name: long}}},
		"register memory":      {CmdRegisterNode, RegisterNode{Node{ID: "n1", Incarnation: 2, MemoryBytes: 1 << 60}}},
		"register cpu":         {CmdRegisterNode, RegisterNode{Node{ID: "n1", Incarnation: 2, CPUMillis: math.MaxUint32}}},
		"register many weaker": {CmdRegisterNode, RegisterNode{Node{ID: "n1", Incarnation: 2, Weaker: slices.Repeat([]string{"x"}, maxWeaker+1)}}},
		"register weaker":      {CmdRegisterNode, RegisterNode{Node{ID: "n1", Incarnation: 2, Weaker: []string{""}}}},
		"drain unknown":        {CmdDrainNode, DrainNode{"n9", true}},
		"remove unknown":       {CmdRemoveNode, RemoveNode{"n9"}},
		"token role":           {CmdCreateToken, CreateToken{ID: "x", Role: 9, Hash: [32]byte{1}}},
		"token hash":           {CmdCreateToken, CreateToken{ID: "x", Role: RoleAdmin}},
		"token short hash":     {CmdCreateToken, m{1: "x", 3: 1, 4: []byte{1}}},
		"token ID":             {CmdCreateToken, CreateToken{Role: RoleAdmin, Hash: [32]byte{1}}},
		"token expiry":         {CmdCreateToken, CreateToken{ID: "x", Role: RoleAdmin, Hash: [32]byte{1}, Expires: -1}},
		"revoke unknown":       {CmdRevokeToken, RevokeToken{"x"}},
		"admit nobody":         {CmdAdmitNode, AdmitNode{"join", [32]byte{1}, ""}},
		"init again":           {CmdInitCluster, InitCluster{"c2", []byte{1}, []byte{1}, "n1", Settings{}}},
		"init without CA":      {CmdInitCluster, InitCluster{"c2", nil, nil, "n1", Settings{}}},
		"level falls":          {CmdSetFeatureLevel, SetFeatureLevel{}},
	} {
		t.Run(name, func(t *testing.T) {
			body, ok := c.body.([]byte)
			if !ok {
				body = encode(c.body)
			}
			c := Command{Version: 1, Type: c.kind, RequestID: RequestID{0xee}}
			b, err := EncodeCommand(c)
			if err != nil {
				t.Fatal(err)
			}
			// By hand: the library refuses to encode a body that is not CBOR.
			b[0]++
			b = append(append(b, 5), body...)
			r.s.m.index++ // the same empty batch is applied to both
			before := r.s.Hash()
			r.s.m.index--
			r.index = r.s.Index()
			a, err := r.s.Apply(r.index+1, EncodeBatch(r.now, [][]byte{b}))
			if err != nil {
				t.Fatal(err)
			}
			if a.Results[0].Code == OK || a.Results[0].Detail == "" || len(a.Changes) != 0 {
				t.Fatalf("%+v", a)
			}
			if r.s.Hash() != before {
				t.Fatal("the state changed")
			}
			for _, s := range r.s.m.shapes {
				if s.refs <= 0 {
					t.Fatalf("a shape without tasks is kept: %+v", s)
				}
			}
		})
	}
}

// A command that is no command at all does not stop the node either: only what
// is well-formed and from the future does.
func TestGarbageIsRefused(t *testing.T) {
	s := New(Limits{})
	garbage := [][]byte{nil, {0xff}, {0xa1}, []byte("hello"), bytes.Repeat([]byte{0xa1, 0x01}, 100), make([]byte, 1000)}
	a, err := s.Apply(1, EncodeBatch(epoch, garbage))
	if _, isStop := errors.AsType[*StopError](err); err != nil && !isStop {
		t.Fatal(err)
	}
	for i, res := range a.Results {
		if res.Code != CodeInvalid {
			t.Errorf("%d: %+v", i, res)
		}
	}
}

// Check refuses what would stop or be refused everywhere, and nothing else.
func TestCheck(t *testing.T) {
	for kind, body := range goldenBodies(t) {
		if err := Check(cmd(t, kind, RequestID{1}, body)); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for name, b := range map[string][]byte{
		"garbage":     []byte("hello"),
		"empty":       nil,
		"bad shape":   cmd(t, CmdSubmit, RequestID{}, Submit{[]Submission{{Shape{Priority: 200}, spec(t, "x")}}}),
		"level":       cmd(t, CmdSetFeatureLevel, RequestID{}, SetFeatureLevel{99}),
		"no tasks":    cmd(t, CmdCancel, RequestID{}, Cancel{}),
		"other body":  cmd(t, CmdDrainNode, RequestID{}, Node{ID: "n1", Incarnation: 1}),
		"future kind": {0xa2, 0x01, 0x01, 0x02, 0x18, 200},
	} {
		if Check(b) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Times at the edge of their range do not overflow.
func TestTimesAtTheEdge(t *testing.T) {
	r := newRig(t, Limits{})
	r.node("n1", nil)
	r.now = maxUnixNano
	id := r.submit(Shape{QueueTimeout: MaxDuration, RunTimeout: MaxDuration, RetryLimit: 1, RetryBackoff: MaxDuration})
	r.assign(id, 1, "n1")
	if at, ok := r.s.NextDeadline(); !ok || at <= r.now {
		t.Fatalf("deadline %d", at)
	}
	r.report(id, 1, "n1", AttemptResult{Reason: EndTimeout})
	if v := r.task(id); v.RetryAt != r.now+int64(time.Hour) {
		t.Fatalf("%+v", v)
	}
	replay(t, r, 3)
}
