package fsm

import (
	"errors"
	"strings"
	"testing"
)

func TestAdmission(t *testing.T) {
	r := newRig(t, Limits{Nodes: 4})
	r.node("n1", nil)
	hash := [32]byte{7}
	r.ok(CmdCreateToken, CreateToken{ID: "two", Role: RoleNode, Hash: hash, Uses: 2, Expires: r.now + 10*second})
	r.ok(CmdCreateToken, CreateToken{ID: "api", Role: RoleAdmin, Hash: hash})
	admit := func(token string, hash [32]byte, node NodeID) Code {
		return r.do(CmdAdmitNode, AdmitNode{TokenID: token, Hash: hash, Node: node}).Code
	}
	steps := []struct {
		what  string
		token string
		hash  [32]byte
		node  NodeID
		want  Code
	}{
		{"wrong secret", "two", [32]byte{8}, "a", CodeTokenBad},
		{"unknown token", "xxx", hash, "a", CodeTokenBad},
		{"an API token", "api", hash, "a", CodeTokenBad},
		{"first use", "two", hash, "a", OK},
		{"the same node again", "two", hash, "a", OK},
		{"second use", "two", hash, "b", OK},
		{"third node", "two", hash, "c", CodeTokenUsed},
		{"the first again, though all uses are spent", "two", hash, "a", OK},
		{"again with the wrong secret", "two", [32]byte{8}, "a", CodeTokenBad},
	}
	for _, s := range steps {
		if got := admit(s.token, s.hash, s.node); got != s.want {
			t.Errorf("%s: %s, want %s", s.what, got, s.want)
		}
	}
	if v, _ := r.s.TokenByID("two"); v.Used != 2 {
		t.Errorf("used %d times, want 2", v.Used)
	}
	r.now += 10 * second
	if got := admit("two", hash, "d"); got != CodeTokenExpired {
		t.Errorf("at its expiry: %s", got)
	}
	r.ok(CmdRevokeToken, RevokeToken{ID: "two"})
	if got := admit("two", hash, "a"); got != CodeTokenBad {
		t.Errorf("revoked: %s", got)
	}
	if res := r.do(CmdRevokeToken, RevokeToken{ID: "two"}); res.Code != CodeNotFound {
		t.Errorf("revoked twice: %s", res.Code)
	}
	if got := admit("join", [32]byte{1}, "d"); got != OK {
		t.Errorf("fourth node: %s", got)
	}
	if got := admit("join", [32]byte{1}, "e"); got != CodeConflict {
		t.Errorf("beyond the bound: %s", got)
	}
	replay(t, r, 9)
}

// A node that has registered may have voted: a certificate for its key with an
// empty store behind it would be a second vote. guards P1
func TestMembersAreNotAdmittedAgain(t *testing.T) {
	r := newRig(t, Limits{})
	r.node("n1", nil)
	r.node("n2", nil)
	hash := [32]byte{7}
	r.ok(CmdCreateToken, CreateToken{ID: "fresh", Role: RoleNode, Hash: hash, Uses: 2})
	for _, admit := range []AdmitNode{
		{TokenID: "join", Hash: [32]byte{1}, Node: "n2"}, // the token that it once came with
		{TokenID: "fresh", Hash: hash, Node: "n2"},
		{TokenID: "fresh", Hash: hash, Node: "n1"}, // the first node, which came without
	} {
		if res := r.do(CmdAdmitNode, admit); res.Code != CodeForbidden {
			t.Errorf("%s with %s: %s", admit.Node, admit.TokenID, res.Code)
		}
	}
	if v, _ := r.s.TokenByID("fresh"); v.Used != 0 {
		t.Errorf("refusals cost %d uses", v.Used)
	}
	replay(t, r, 4)
}

func TestTokensAreBoundedAndExpiredOnesMakeRoom(t *testing.T) {
	r := newRig(t, Limits{Tokens: 2})
	create := func(id string, expires int64) Code {
		return r.do(CmdCreateToken, CreateToken{ID: id, Role: RoleViewer, Hash: [32]byte{1}, Expires: expires}).Code
	}
	if create("b", 0) != OK || create("a", r.now+second) != OK || create("c", 0) != CodeConflict || create("a", 0) != CodeConflict {
		t.Fatal("want two tokens and no more, and no ID twice")
	}
	r.now += 2 * second
	if create("c", 0) != OK {
		t.Fatal("an expired token makes no room")
	}
	if ts := r.s.Tokens(); len(ts) != 2 || ts[0].ID != "b" || ts[1].ID != "c" {
		t.Fatalf("%+v", ts)
	}
}

func TestInitClusterOnce(t *testing.T) {
	r := newRig(t, Limits{})
	init := InitCluster{ClusterID: "c1", CACert: []byte{1}, CAKey: []byte{2}, First: "n1", Settings: Settings{QueueBound: 5}}
	r.ok(CmdInitCluster, init)
	init.ClusterID = "c2"
	if res := r.do(CmdInitCluster, init); res.Code != CodeConflict {
		t.Fatalf("%+v", res)
	}
	c, ok := r.s.Cluster()
	if !ok || c.ClusterID != "c1" || c.Settings.QueueBound != 5 || c.Settings.FinishedKept != DefaultFinishedKept || c.FeatureLevel != 1 {
		t.Fatalf("%+v", c)
	}
	if n, ok := r.s.Node("n1"); !ok || !n.Admitted || n.Registered {
		t.Fatalf("the first node: %+v", n)
	}
}

// guards P11
func TestFeatureLevel(t *testing.T) {
	r := newRig(t, Limits{})
	r.node("n1", nil)
	r.ok(CmdSetFeatureLevel, SetFeatureLevel{Level: BaseFeatureLevel})
	if res := r.do(CmdSetFeatureLevel, SetFeatureLevel{}); res.Code != CodeConflict {
		t.Fatalf("it fell: %+v", res)
	}
	if res := r.do(CmdSetFeatureLevel, SetFeatureLevel{Level: 2}); res.Code != CodeConflict || !strings.Contains(res.Detail, "n1") {
		t.Fatalf("raised beyond what a node knows: %+v", res)
	}
	r.node("n1", func(n *Node) { n.FeatureLevel = 99 })
	_, err := r.s.Apply(r.index+1, EncodeBatch(r.now, [][]byte{cmd(t, CmdSetFeatureLevel, RequestID{}, SetFeatureLevel{Level: 99})}))
	if err == nil || !strings.Contains(err.Error(), "feature level 99") {
		t.Fatalf("a level that this release does not know: %v", err)
	}
}

// guards P11
func TestLevelGate(t *testing.T) {
	def := &commandDefs[CmdTick]
	was := *def
	t.Cleanup(func() { *def = was })
	def.level = 2
	r := newRig(t, Limits{})
	if res := r.do(CmdTick, nil); res.Code != CodeInvalid || !strings.Contains(res.Detail, "feature level 2") {
		t.Fatalf("%+v", res)
	}
	r.s.m.cluster.Level = 2
	r.ok(CmdTick, nil)
}

// What this release does not know stops the node with a message that names it.
// guards P9, P11
func TestUnknownStopsTheNode(t *testing.T) {
	tick := cmd(t, CmdTick, RequestID{}, nil)
	encode := func(c Command) []byte {
		b, err := EncodeCommand(c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	raw := func(v any) []byte {
		b, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	type m = map[int]any
	for name, c := range map[string]struct {
		batch []byte
		want  string
	}{
		"type":            {EncodeBatch(epoch, [][]byte{tick, encode(Command{Version: 1, Type: 200})}), "command 1: command type 200"},
		"type zero":       {EncodeBatch(epoch, [][]byte{encode(Command{Version: 1})}), "command type 0"},
		"version":         {EncodeBatch(epoch, [][]byte{encode(Command{Version: 2, Type: CmdSubmit})}), "version 2 of command submit"},
		"envelope field":  {EncodeBatch(epoch, [][]byte{raw(m{1: 1, 2: 5, 9: 1})}), "unknown field 9"},
		"body field":      {EncodeBatch(epoch, [][]byte{encode(Command{Version: 1, Type: CmdSubmit, Body: raw(m{2: 1})})}), "unknown field 2"},
		"rare body field": {EncodeBatch(epoch, [][]byte{encode(Command{Version: 1, Type: CmdDrainNode, Body: raw(m{9: 1})})}), "unknown field"},
		"shape field": {EncodeBatch(epoch, [][]byte{encode(Command{Version: 1, Type: CmdSubmit,
			Body: raw(m{1: []any{m{1: m{60: 1}, 2: m{}}}})})}), "unknown field"},
		"batch format": {append([]byte{2}, EncodeBatch(epoch, nil)[1:]...), "batch format 2"},
		"no header":    {[]byte{1, 2}, "no header"},
		"cut off":      {EncodeBatch(epoch, [][]byte{tick})[:12], "beyond the batch"},
		"bad time":     {EncodeBatch(-1, nil), "time"},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Limits{})
			_, err := s.Apply(1, c.batch)
			var stop *StopError
			if !errors.As(err, &stop) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "entry 1") {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if _, again := s.Apply(2, EncodeBatch(epoch, nil)); again == nil {
				t.Fatal("the state went on")
			}
			snap := s.Snapshot()
			defer snap.Release()
			if _, err := snap.WriteTo(&failingWriter{1 << 20}); !errors.As(err, &stop) {
				t.Fatalf("a snapshot of a broken state: %v", err)
			}
		})
	}
}

func TestIndexesAscend(t *testing.T) {
	s := New(Limits{})
	if _, err := s.Apply(5, EncodeBatch(10, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(6, EncodeBatch(7, nil)); err != nil || s.Now() != 10 || s.Index() != 6 {
		t.Fatalf("time ran back: %d, %v", s.Now(), err)
	}
	if _, err := s.Apply(6, EncodeBatch(10, nil)); err == nil {
		t.Fatal("an entry was applied twice")
	}
}
