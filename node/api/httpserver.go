package api

import (
	"context"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"
)

// NewHTTPServer makes the server for a handler of New, with every wait of a
// slow or silent client bounded. Bodies and answers have deadlines per
// operation, set by the handler: a server-wide one would end streams.
// ConnContext may be nil; it is for the credentials of unix sockets.
func NewHTTPServer(h http.Handler, logger hclog.Logger, connContext func(context.Context, net.Conn) context.Context) *http.Server {
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second, // from the first byte: a client that trickles headers
		IdleTimeout:       2 * time.Minute, // keep-alive without a request
		MaxHeaderBytes:    16 << 10,
		Protocols:         protocols,
		HTTP2: &http.HTTP2Config{
			// A stream costs a goroutine before any of our limits is asked.
			MaxConcurrentStreams: 256,
			// A peer that is gone without a word is found within a minute.
			SendPingTimeout: 45 * time.Second,
			PingTimeout:     15 * time.Second,
			// Bytes that cannot be written for so long end the connection,
			// also where no handler is writing.
			WriteByteTimeout: 30 * time.Second,
			// What a stream or connection may send before the handler reads.
			MaxReceiveBufferPerStream:     1 << 20,
			MaxReceiveBufferPerConnection: 4 << 20,
		},
		ErrorLog:    log.New(logger.StandardWriter(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}), "", 0),
		ConnContext: connContext,
	}
}
