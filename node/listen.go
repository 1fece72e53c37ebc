package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/fsm"
	"holdfast/node/api"
	"holdfast/node/auth"
	"holdfast/node/policy"
	"holdfast/transport"
)

// listen takes the one port, for nodes (UDP) and clients (TCP).
func (n *Node) listen() error {
	secret, err := resetSecret(n.creds)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		err = n.listenOnce(secret)
		// Port 0: the free TCP port need not be free for UDP.
		if err == nil || try == 20 || !anyPort(n.cfg.Listen) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("listen on %s: %w", n.cfg.Listen, err)
	}
	n.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "holdfast_transport_clients_refused_total",
		Help: "Handshakes of RPC clients that were refused because those of others took all the time they may have.",
	}, func() float64 { return float64(n.mux.ClientsRefused()) }))
	n.addr = n.cfg.Advertise
	if n.addr == "" {
		n.addr = n.tcp.Addr().String()
	}
	return nil
}

func anyPort(listen string) bool {
	_, port, err := net.SplitHostPort(listen)
	return err == nil && port == "0"
}

func (n *Node) listenOnce(secret []byte) error {
	tcp, err := net.Listen("tcp", n.cfg.Listen)
	if err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(n.cfg.Listen)
	if err != nil {
		return errors.Join(err, tcp.Close())
	}
	port := tcp.Addr().(*net.TCPAddr).Port
	mux, err := transport.Listen(transport.Config{
		Addr: net.JoinHostPort(host, strconv.Itoa(port)), NodeID: n.id, ClusterID: n.clusterID,
		Certificate: n.cert.Get, Roots: n.creds.pool,
		Revoked:    func(id string) bool { return n.state != nil && n.state.Revoked(fsm.NodeID(id)) },
		OnEvidence: n.evidence, ResetSecret: secret, Logger: n.log.Named("transport"),
	})
	if err != nil {
		return errors.Join(err, tcp.Close())
	}
	n.tcp, n.mux = tcp, mux
	return nil
}

// refreshPatience covers an election; a client waits for it.
const refreshPatience = 5 * time.Second

// refresh brings this node's state up to date.
func (n *Node) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, refreshPatience)
	defer cancel()
	if _, err := (backend{n}).ReadBarrier(ctx, api.ReadOptions{}); err != nil {
		return fmt.Errorf("%w: %w", api.ErrNoLeader, err)
	}
	return nil
}

// serveAPI serves clients over HTTPS and the owner of the data folder over a
// unix socket.
func (n *Node) serveAPI() error {
	server, err := api.New(api.Config{
		Backend: backend{n},
		Authenticator: auth.New(auth.Config{
			Lookup: n.lookupToken, Refresh: n.refresh, StateNow: n.state.Now, Now: n.now, OwnerUID: n.ownerUID(),
		}),
		Policy: policy.Default(), Audit: n.audit, Logger: n.log.Named("api"), Registry: n.registry, Now: n.now, Version: Version(),
		Minter: &auth.Minter{Rand: rand.Reader, CAPin: n.pinBytes, Addrs: n.joinAddrs},
	})
	if err != nil {
		return fmt.Errorf("API: %w", err)
	}
	n.server.Store(server)
	// A socket that a crash left would be in the way; the store's lock says
	// that no other node serves it.
	if err := os.Remove(n.folder.socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("unix socket: %w", err)
	}
	if n.unix, err = net.Listen("unix", n.folder.socket()); err != nil {
		return fmt.Errorf("unix socket: %w", err)
	}
	if err := os.Chmod(n.folder.socket(), 0o600); err != nil {
		return fmt.Errorf("unix socket: %w", err)
	}
	conf := &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return n.cert.Get(), nil },
	}
	// Not the node's own context: what is short may still end well.
	n.asked, n.endAll = context.WithCancel(context.WithoutCancel(n.ctx))
	secure, err := api.NewTLSListener(n.tcp, conf, api.Handshakes{}, n.registry, n.log.Named("http"))
	if err != nil {
		return fmt.Errorf("API: %w", err)
	}
	n.serveHTTP(server, secure)
	n.serveHTTP(server, n.unix)
	return nil
}

func (n *Node) serveHTTP(handler http.Handler, l net.Listener) {
	s := api.NewHTTPServer(handler, n.log.Named("http"), auth.ConnContext)
	s.BaseContext = func(net.Listener) context.Context { return n.asked }
	n.api = append(n.api, s)
	n.serving.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			n.fail(fmt.Errorf("serve clients on %s: %w", l.Addr(), err))
		}
	})
}

func (n *Node) lookupToken(id string) (auth.Token, bool) {
	v, ok := n.state.TokenByID(id)
	return auth.Token{Role: v.Role, Hash: v.Hash, Expires: v.Expires}, ok
}

func (n *Node) pinBytes() [32]byte { return sha256.Sum256(n.creds.ca.RawSubjectPublicKeyInfo) }

// joinAddrs are the addresses that a join token carries: this node's, and a
// few others in case it is down by then.
func (n *Node) joinAddrs() []string {
	out := []string{n.addr}
	for _, a := range n.knownPeers() {
		if a != n.addr && len(out) < 5 {
			out = append(out, a)
		}
	}
	return out
}

// connectWorker opens the worker's session with the leader; on the leader
// itself through a pipe, so that both ends are always the same code.
func (n *Node) connectWorker(ctx context.Context) (io.ReadWriteCloser, error) {
	leader := n.group.Leader()
	switch {
	case leader.Self:
		here, there := net.Pipe()
		n.work.Go(func() {
			if err := n.hub.Serve(n.ctx, fsm.NodeID(n.id), there); err != nil {
				n.log.Debug("the local worker's session ended", "error", err)
			}
		})
		return here, nil
	case leader.ID == "":
		return nil, errors.New("no leader is known")
	}
	return n.rpc.Stream(ctx, leader.ID, methodWorker, nil)
}

func (n *Node) openForward(ctx context.Context, leader string) (net.Conn, error) {
	return n.rpc.Stream(ctx, leader, methodForward, nil)
}
