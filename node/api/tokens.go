package api

import (
	"context"
	"net/http"
	"time"

	"holdfast/client"
	"holdfast/fsm"
)

// What a join token takes where the request says nothing: short and once.
const (
	defaultJoinTTL  = time.Hour
	defaultJoinUses = 1
	maxUses         = 10_000
)

func (s *server) registerTokens() {
	register(s, operation{
		id: "list-tokens", method: http.MethodGet, path: "/v1/tokens", tag: "tokens",
		summary: "List tokens", description: "Without secrets; expired ones too.",
		problems: []string{client.CodeUnavailable, client.CodeStaleTooOld},
	}, s.listTokens)
	register(s, operation{
		id: "create-token", method: http.MethodPost, path: "/v1/tokens", tag: "tokens", mutation: true, status: http.StatusCreated,
		summary: "Create a token",
		description: "The secret is in this answer and nowhere else: the cluster keeps its hash. For that reason an Idempotency-Key has no effect here; " +
			"if the answer is lost, create another token and revoke the first.",
		consumes: []string{jsonType}, maxBody: 4 << 10, body: client.TokenRequest{},
		problems: []string{client.CodeConflict, client.CodeUnavailable},
	}, s.createToken)
	register(s, operation{
		id: "revoke-token", method: http.MethodDelete, path: "/v1/tokens/{id}", tag: "tokens", mutation: true, status: http.StatusNoContent,
		summary: "Revoke a token", description: "Each node refuses it from the moment it has applied the command.",
		problems: []string{client.CodeNotFound, client.CodeUnavailable},
	}, s.revokeToken)
}

type tokensInput struct{ ReadParams }

type tokensOutput struct {
	Freshness
	Body client.TokenList
}

func (s *server) listTokens(ctx context.Context, _ *call, in *tokensInput) (*tokensOutput, error) {
	fresh, err := s.barrier(ctx, in.ReadParams)
	if err != nil {
		return nil, err
	}
	out := &tokensOutput{Freshness: fresh, Body: client.TokenList{Tokens: []client.Token{}, Index: fresh.Index}}
	for _, v := range s.cfg.Backend.State().Tokens() {
		out.Body.Tokens = append(out.Body.Tokens, tokenOf(v))
	}
	return out, nil
}

func tokenOf(v fsm.TokenView) client.Token {
	t := client.Token{ID: v.ID, Name: v.Name, Role: nameOf(roleNames, v.Role), CreatedAt: timeOf(v.CreatedAt), ExpiresAt: optionalTime(v.Expires)}
	if v.Role == fsm.RoleNode && v.Uses > 0 {
		left := int(v.Uses) - int(v.Used)
		t.UsesLeft = &left
	}
	return t
}

type createInput struct {
	Keyed
	RawBody []byte `contentType:"application/json"`
}

type newTokenOutput struct {
	Freshness
	Body client.NewToken
}

func (s *server) createToken(ctx context.Context, c *call, in *createInput) (*newTokenOutput, error) {
	var req client.TokenRequest
	if p := decode(in.RawBody, &req); p != nil {
		return nil, p
	}
	cmd, p := tokenCommand(&req, s.cfg.Now())
	if p != nil {
		return nil, p
	}
	var text string
	var err error
	if cmd.ID, cmd.Hash, text, err = s.cfg.Minter.Mint(cmd.Role == fsm.RoleNode); err != nil {
		return nil, err
	}
	c.target = cmd.ID + " " + req.Role
	_, index, err := s.propose(ctx, c, fsm.CmdCreateToken, "", cmd)
	if err != nil {
		return nil, err
	}
	view := fsm.TokenView{ID: cmd.ID, Name: cmd.Name, Role: cmd.Role, Expires: cmd.Expires, Uses: cmd.Uses, CreatedAt: s.cfg.Now().UnixNano()}
	if v, ok := s.cfg.Backend.State().TokenByID(cmd.ID); ok {
		view = v
	}
	return &newTokenOutput{Freshness{Index: index}, client.NewToken{Token: tokenOf(view), Secret: text}}, nil
}

// tokenCommand checks a request and fills in what it leaves out.
func tokenCommand(req *client.TokenRequest, now time.Time) (fsm.CreateToken, *problem) {
	f := &faults{prefix: "body."}
	role, ok := numberOf[fsm.Role](roleNames, req.Role)
	if !ok {
		f.add("role", "is %.64q, want viewer, submitter, operator, admin or node", req.Role)
	}
	text(f, "name", req.Name, 0, maxName)
	ttl := lasting(f, "ttl", req.TTL, 0, fsm.MaxDuration)
	uses := within(f, "uses", int64(req.Uses), 0, maxUses)
	if role == fsm.RoleNode {
		if ttl == 0 {
			ttl = defaultJoinTTL
		}
		if uses == 0 {
			uses = defaultJoinUses
		}
	} else if uses != 0 {
		f.add("uses", "is for tokens of the role node")
	}
	cmd := fsm.CreateToken{Name: req.Name, Role: role, Uses: uint32(uses)}
	if ttl > 0 {
		cmd.Expires = now.Add(ttl).UnixNano()
	}
	return cmd, f.problem()
}

type revokeInput struct {
	Keyed
	ID string `path:"id" maxLength:"128"`
}

func (s *server) revokeToken(ctx context.Context, c *call, in *revokeInput) (*emptyOutput, error) {
	c.target = in.ID
	// Applied here first: whoever revokes a token and tries it at the same
	// node must find it dead.
	index, _, err := s.proposeApplied(ctx, c, fsm.CmdRevokeToken, in.Key, fsm.RevokeToken{ID: in.ID})
	if err != nil {
		return nil, err
	}
	return &emptyOutput{Freshness{Index: index}}, nil
}
