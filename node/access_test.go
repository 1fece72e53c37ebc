package node_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/fsm"
	"holdfast/node/api"
	"holdfast/node/audit"
	"holdfast/node/auth"
	"holdfast/node/policy"
)

// least is who may use each operation, written down a second time: a change of
// the policy must be meant twice. Operations that are missing here fail.
var least = map[string]string{
	"get-health": "", "get-ready": "", "get-openapi": "", "get-openapi-yaml": "",
	"get-metrics": "viewer", "list-tasks": "viewer", "get-task": "viewer", "wait-task": "viewer", "get-output": "viewer",
	"list-nodes": "viewer", "get-node": "viewer", "get-cluster": "viewer",
	"submit-task": "submitter", "submit-batch": "submitter", "submit-stream": "submitter", "cancel-task": "submitter",
	"drain-node": "operator", "transfer-leadership": "operator",
	"remove-node": "admin", "list-tokens": "admin", "create-token": "admin", "revoke-token": "admin",
	"save-snapshot": "admin", "restore-snapshot": "admin",
}

var ladder = []string{"", "node", "viewer", "submitter", "operator", "admin"}

// guards P8: every route that exists, for every role, through the real
// handler, authentication, policy and audit.
func TestEveryRouteForEveryRole(t *testing.T) {
	tokens := map[string]auth.Token{}
	credential := map[string]string{}
	for i, role := range ladder[1:] {
		id, secret, err := auth.NewToken(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		number := []fsm.Role{fsm.RoleNode, fsm.RoleViewer, fsm.RoleSubmitter, fsm.RoleOperator, fsm.RoleAdmin}[i]
		tokens[id] = auth.Token{Role: number, Hash: secret.Hash()}
		credential[role] = "Bearer " + auth.FormatToken(id, secret)
	}
	dir := t.TempDir()
	log, err := audit.Open(audit.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := api.New(api.Config{
		Backend: refusing{},
		Authenticator: auth.New(auth.Config{
			Lookup:   func(id string) (auth.Token, bool) { tok, ok := tokens[id]; return tok, ok },
			StateNow: func() int64 { return 0 }, Now: time.Now, OwnerUID: 1,
		}),
		Policy: policy.Default(), Audit: log,
		Minter: &auth.Minter{Rand: rand.Reader, CAPin: func() [32]byte { return [32]byte{} }, Addrs: func() []string { return nil }},
	})
	if err != nil {
		t.Fatal(err)
	}
	do := func(method, path, auth string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, nil)
		// Each from its own address: the failures are limited by source.
		r.RemoteAddr = "10.0." + string(rune('0'+len(path)%10)) + "." + string(rune('0'+len(method)%10)) + ":1"
		if auth != "" {
			r.Header.Set("Authorization", auth)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	var doc struct {
		Paths map[string]map[string]struct{ OperationID string }
	}
	if err := json.Unmarshal(do("GET", "/openapi.json", "").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	seen, refused := 0, 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			want, known := least[op.OperationID]
			if !known {
				t.Errorf("%s %s: the operation %s is in no table", method, path, op.OperationID)
				continue
			}
			seen++
			url := strings.ReplaceAll(path, "{id}", "t1")
			for _, role := range ladder {
				allowed := want == "" || role != "" && role != "node" && at(role) >= at(want)
				w := do(strings.ToUpper(method), url, credential[role])
				denial := w.Code == http.StatusForbidden || w.Code == http.StatusUnauthorized || w.Code == http.StatusTooManyRequests
				if role == "" && want != "" && w.Code != http.StatusUnauthorized && w.Code != http.StatusTooManyRequests {
					t.Errorf("%s without a credential: status %d", op.OperationID, w.Code)
				}
				if role != "" && !allowed && w.Code != http.StatusForbidden {
					t.Errorf("%s as %s: status %d, want a refusal", op.OperationID, role, w.Code)
				}
				if allowed == denial {
					t.Errorf("%s as %q: status %d, want allowed = %v: %s", op.OperationID, role, w.Code, allowed, w.Body)
				}
				if !allowed && role != "" {
					refused++
				}
			}
		}
	}
	if seen != len(least) {
		t.Errorf("%d operations are registered, the table has %d", seen, len(least))
	}
	if err := log.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	head, err := audit.Verify(dir, nil)
	if err != nil || head.Seq < uint64(refused) {
		t.Errorf("%d refusals, and the audit has %+v (%v)", refused, head, err)
	}
}

func at(role string) int {
	for i, r := range ladder {
		if r == role {
			return i
		}
	}
	return -1
}

// refusing is a Backend that answers everything with a conflict: what reaches
// it was allowed.
type refusing struct{}

func (refusing) State() api.State { return fsm.New(fsm.Limits{}) }
func (refusing) Propose(context.Context, []byte) (fsm.Result, uint64, error) {
	return fsm.Result{}, 0, api.ErrConflict
}
func (refusing) ProposeAsync(_ time.Time, _ []byte, done func(fsm.Result, uint64, error)) {
	done(fsm.Result{}, 0, api.ErrConflict)
}
func (refusing) ReadBarrier(context.Context, api.ReadOptions) (api.ReadInfo, error) {
	return api.ReadInfo{}, api.ErrConflict
}
func (refusing) WatchTask(fsm.TaskID) (<-chan struct{}, func()) { return nil, func() {} }
func (refusing) Output(context.Context, api.OutputRequest) (io.ReadCloser, api.OutputInfo, error) {
	return nil, api.OutputInfo{}, api.ErrConflict
}
func (refusing) Cluster(context.Context, bool) (*client.ClusterStatus, error) {
	return nil, api.ErrConflict
}
func (refusing) Peers() map[fsm.NodeID]api.Peer                   { return nil }
func (refusing) TransferLeadership(context.Context) error         { return api.ErrConflict }
func (refusing) RemoveNode(context.Context, fsm.NodeID) error     { return api.ErrNoLeader }
func (refusing) SaveSnapshot(context.Context, io.Writer) error    { return api.ErrConflict }
func (refusing) RestoreSnapshot(context.Context, io.Reader) error { return api.ErrConflict }
func (refusing) NotReady() []string                               { return nil }
