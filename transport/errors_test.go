package transport

import (
	"errors"
	"fmt"
	"testing"

	"github.com/quic-go/quic-go"
)

func TestWhatPeersSayOfUs(t *testing.T) {
	for _, c := range []struct {
		name             string
		err              error
		revoked, refused bool
	}{
		{"none", nil, false, false},
		{"another", errors.New("x"), false, false},
		{"closed as revoked", &quic.ApplicationError{Remote: true, ErrorCode: codeRevoked}, true, false},
		{"closed by us as revoked", &quic.ApplicationError{ErrorCode: codeRevoked}, false, false},
		{"shutting down", &quic.ApplicationError{Remote: true, ErrorCode: codeShutdown}, false, false},
		{"bad certificate", &quic.TransportError{Remote: true, ErrorCode: 0x12a}, false, true},
		{"their certificate is bad", &quic.TransportError{ErrorCode: 0x12a}, false, false},
		{"no common protocol", &quic.TransportError{Remote: true, ErrorCode: 0x178}, false, false},
	} {
		err := c.err
		if err != nil {
			err = fmt.Errorf("dial: %w", err)
		}
		if RevokedByPeer(err) != c.revoked || RefusedByPeer(err) != c.refused {
			t.Errorf("%s: revoked %v, refused %v", c.name, RevokedByPeer(err), RefusedByPeer(err))
		}
	}
}
