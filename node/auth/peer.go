package auth

import (
	"context"
	"net"

	"golang.org/x/sys/unix"
)

type peerKey struct{}

// ConnContext is for http.Server.ConnContext. On a unix socket it asks the
// kernel who connected and keeps the answer; elsewhere it does nothing. The
// kernel took the answer when the peer connected: it stays true if the peer
// changes its user or hands the connection on.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || credErr != nil {
		return ctx // then the connection has no credential, and needs a token
	}
	return context.WithValue(ctx, peerKey{}, cred.Uid)
}

func peerUID(ctx context.Context) (uint32, bool) {
	uid, ok := ctx.Value(peerKey{}).(uint32)
	return uid, ok
}
