package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quic-go/quic-go"

	"holdfast/client"
	"holdfast/client/clienttest"
	"holdfast/client/frames"
	"holdfast/fsm"
)

// BenchmarkFastQUIC is a submission of 128 bytes from the SDK to this half of
// the RPC and back, over loopback; client and server share the processor. The
// log takes everything at once.
func BenchmarkFastQUIC(b *testing.B) {
	for _, callers := range []int{64, 1024} {
		b.Run(fmt.Sprintf("%dCallers", callers), func(b *testing.B) { benchQUIC(b, callers) })
	}
}

func benchQUIC(b *testing.B, callers int) {
	backend := instant{newMemory(b), make(chan func(fsm.Result, uint64, error), 4096)}
	go backend.run()
	records := &counted{}
	s, err := New(Config{
		Backend: backend, Authenticator: words{}, Audit: records, Minter: &counterMinter{},
		Policy: ladder{"submit-task": 2}, Limits: Limits{RatePerSecond: 1e12, Burst: 1 << 40},
	})
	if err != nil {
		b.Fatal(err)
	}
	ca, err := clienttest.NewCA()
	if err != nil {
		b.Fatal(err)
	}
	cert, err := ca.Issue("spiffe://test/node/n")
	if err != nil {
		b.Fatal(err)
	}
	ln, err := quic.ListenAddr("127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{frames.ALPN}, MinVersion: tls.VersionTLS13}, nil)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() {
		conn, err := ln.Accept(ctx)
		if err != nil {
			return
		}
		stream, err := conn.AcceptStream(ctx)
		if err != nil {
			return
		}
		_ = s.ServeFast(ctx, stream, "10.0.0.1:1")
		_ = conn.CloseWithError(0, "")
	})
	f, err := client.NewFast(client.Config{Addrs: []string{ln.Addr().String()}, Token: "ann:submitter", CAPin: ca.Pin()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		f.Close()
		cancel()
		ln.Close()
		served.Wait()
		close(backend.queue)
	}()
	raw, err := client.EncodeSpec(client.TaskSpec{Command: []string{"true", fmt.Sprintf("%0128d", 1)}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var work sync.WaitGroup
	for range callers {
		work.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := f.SubmitEncoded(b.Context(), [][]byte{raw}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/float64(max(1, records.n.Load())), "tasks/record")
}

// counted is an Audit that counts.
type counted struct{ n atomic.Int64 }

func (c *counted) Begin(context.Context) error                 { return nil }
func (c *counted) End(string, string, string, string, string)  { c.n.Add(1) }
func (c *counted) Note(string, string, string, string, string) {}
