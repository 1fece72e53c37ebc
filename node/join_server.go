package node

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"holdfast/consensus"
	"holdfast/fsm"
	"holdfast/node/auth"
	"holdfast/node/forward"
	"holdfast/node/rpc"
	"holdfast/transport"
	"holdfast/transport/pki"
)

// joinTimeout bounds one join: a stranger must not hold a connection.
const joinTimeout = 15 * time.Second

// serveJoin answers one joining node. It has no certificate yet: the token is
// all that speaks for it.
func (n *Node) serveJoin(ctx context.Context, c *transport.Conn) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	s, err := c.AcceptStream(ctx)
	if err != nil {
		return
	}
	defer func() { _ = s.Close() }()
	_ = s.SetDeadline(time.Now().Add(joinTimeout))
	var q joinRequest
	if err := rpc.ReadFrame(s, &q); err != nil {
		return
	}
	source := c.RemoteAddr().String()
	answer, node := n.admit(ctx, &q, source)
	outcome := "ok"
	if answer.Problem != "" {
		outcome = answer.Code
		n.log.Warn("a node was refused", "source", source, "reason", answer.Problem)
	}
	n.audit.Note("join-token:"+q.TokenID, source, "node.join", node, outcome)
	if err := rpc.WriteFrame(s, answer); err != nil {
		n.log.Debug("joining node not answered", "source", source, "error", err)
		return
	}
	// The joiner closes: a close from here could overtake the answer.
	_ = s.CloseWrite()
	<-waitClosed(ctx, c)
}

func waitClosed(ctx context.Context, c *transport.Conn) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-ctx.Done():
		case <-c.Context().Done():
		}
	}()
	return done
}

// admit spends the token for the node and signs its certificate.
func (n *Node) admit(ctx context.Context, q *joinRequest, source string) (joinAnswer, string) {
	refuse := func(code, format string, args ...any) joinAnswer {
		return joinAnswer{Code: code, Problem: fmt.Sprintf(format, args...)}
	}
	csr, err := x509.ParseCertificateRequest(q.CSR)
	if err != nil || csr.CheckSignature() != nil {
		return refuse("invalid", "the signing request is malformed"), ""
	}
	id, err := pki.NodeID(csr.PublicKey)
	if err != nil {
		return refuse("invalid", "the signing request's key: %v", err), ""
	}
	_, secret, err := auth.ParseToken(q.Secret)
	if err != nil {
		return refuse("token_bad", "no such join token"), id
	}
	cmd, err := fsm.NewCommand(fsm.CmdAdmitNode, fsm.RequestID{}, "join:"+source, fsm.AdmitNode{TokenID: q.TokenID, Hash: secret.Hash(), Node: fsm.NodeID(id)})
	if err != nil {
		return refuse("invalid", "%v", err), id
	}
	result, index, err := n.forward.Propose(ctx, cmd)
	switch {
	case errors.Is(err, forward.ErrNoLeader), errors.Is(err, consensus.ErrUnknownOutcome):
		return refuse("unavailable", "the cluster has no leader at the moment: run the same command again"), id
	case err != nil:
		return refuse("unavailable", "%v", err), id
	}
	switch result.Code {
	case fsm.OK:
	case fsm.CodeTokenUsed:
		return refuse("token_used", "this join token has been used up: create another with holdfast token create --role node"), id
	case fsm.CodeTokenExpired:
		return refuse("token_expired", "this join token has expired: create another with holdfast token create --role node"), id
	case fsm.CodeTokenBad, fsm.CodeNotFound:
		return refuse("token_bad", "no such join token: it was revoked, or belongs to another cluster"), id
	default:
		return refuse("forbidden", "%s: %s", result.Code, result.Detail), id
	}
	// The peers' list below must not be older than the admission.
	if err := n.group.WaitApplied(ctx, index); err != nil {
		return refuse("unavailable", "%v: run the same command again", err), id
	}
	cert, err := n.sign(q.CSR, q.Names)
	if err != nil {
		return refuse("internal", "%v", err), id
	}
	return joinAnswer{Cert: cert, CACert: n.creds.ca.Raw, Peers: n.knownPeers()}, id
}

// knownPeers is every member's address, this node's included.
func (n *Node) knownPeers() map[string]string {
	out := map[string]string{n.id: n.addr}
	for _, v := range n.state.Nodes() {
		if v.Removed || string(v.ID) == n.id {
			continue
		}
		if addr, ok := n.resolve(string(v.ID)); ok {
			out[string(v.ID)] = addr
		}
	}
	return out
}

// certNode is the node that a certificate names.
func certNode(der []byte) (string, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return "", err
	}
	_, id, err := pki.CertIdentity(cert)
	return id, err
}

// firstCertificate is the CA's signature for the cluster's first node.
func firstCertificate(ca *pki.CA, key crypto.Signer, clusterID string, now time.Time, cfg Config) (*credentials, []byte, error) {
	csr, err := pki.NewCSR(key)
	if err != nil {
		return nil, nil, err
	}
	dns, ips := splitNames(certificateNames(cfg))
	der, err := ca.SignNode(csr, pki.SignRequest{ClusterID: clusterID, Now: now, TTL: certificateLife, DNSNames: dns, IPs: ips})
	if err != nil {
		return nil, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	creds, err := assemble(key, ca.Cert(), leaf)
	return creds, der, err
}
