package node

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"holdfast/transport/pki"
)

// renewCheck is how often the certificate's age is looked at.
const renewCheck = time.Hour

// keepCertificate renews the certificate at two thirds of its life. A renewal
// that fails is tried again at the next look; there is a month for that.
func (n *Node) keepCertificate() {
	tick := time.NewTicker(renewCheck)
	defer tick.Stop()
	for {
		if err := n.renewIfDue(n.ctx); err != nil {
			n.log.Warn("the node's certificate was not renewed", "error", err)
		}
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
	}
}

func (n *Node) renewIfDue(ctx context.Context) error {
	leaf, err := x509.ParseCertificate(n.cert.Get().Certificate[0])
	if err != nil {
		return err
	}
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	if n.now().Before(leaf.NotBefore.Add(life * 2 / 3)) {
		return nil
	}
	return n.renew(ctx)
}

// renew gets a new certificate for the same key: from this node's own state
// if it holds the cluster's key, else from the leader.
func (n *Node) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	csr, err := pki.NewCSR(n.creds.key)
	if err != nil {
		return err
	}
	names := certificateNames(n.cfg)
	der, err := n.sign(csr, names)
	if err != nil {
		var a renewAnswer
		if err := n.rpc.Call(ctx, n.group.Leader().ID, methodRenew, renewRequest{CSR: csr, Names: names}, &a); err != nil {
			return err
		}
		der = a.Cert
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	creds, err := assemble(n.creds.key, n.creds.ca, leaf)
	if err != nil {
		return err
	}
	if creds.nodeID != n.id {
		return fmt.Errorf("the new certificate names node %s", creds.nodeID)
	}
	if err := n.folder.saveCertificates(n.creds.ca, der); err != nil {
		return err
	}
	n.cert.Set(creds.cert)
	n.log.Info("certificate renewed", "until", leaf.NotAfter)
	return nil
}
