package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"holdfast/transport"

	"github.com/hashicorp/memberlist"
	"github.com/quic-go/quic-go"
)

// sender is the queue of packets to one peer, and its goroutine.
type sender struct {
	to    memberlist.Address
	queue chan []byte
}

// WriteTo files a packet for whichever node answers at addr.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress files a packet for a node; if it is named, for no other. It
// never blocks; a packet that finds no room is lost.
func (t *Transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if len(b) == 0 || len(b) > maxMessage {
		return time.Time{}, fmt.Errorf("gossip: packet of %d bytes, want 1 to %d", len(b), maxMessage)
	}
	b = slices.Clone(b) // memberlist reuses its buffer
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return time.Time{}, ErrShutdown
	}
	s := t.senders[a]
	if s == nil {
		if len(t.senders) >= maxSenders {
			t.dropped.Add(1)
			return time.Now(), nil
		}
		s = &sender{to: a, queue: make(chan []byte, queueLength)}
		t.senders[a] = s
		t.wg.Add(1)
		go t.send(s)
	}
	select {
	case s.queue <- b:
	default:
		t.dropped.Add(1)
	}
	return time.Now(), nil
}

// send is the goroutine of a sender.
func (t *Transport) send(s *sender) {
	defer t.wg.Done()
	idle := time.NewTimer(idleSender)
	defer idle.Stop()
	for {
		select {
		case b := <-s.queue:
			if err := t.sendOne(s.to, b); err != nil {
				t.dropped.Add(1)
				t.logger.Trace("packet not sent", "to", s.to.String(), "error", err)
			}
			idle.Reset(idleSender)
		case <-idle.C:
			if t.retire(s) {
				return
			}
			idle.Reset(idleSender)
		case <-t.ctx.Done():
			return
		}
	}
}

// retire removes an idle sender, unless a packet has come in meanwhile.
func (t *Transport) retire(s *sender) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(s.queue) > 0 {
		return false
	}
	delete(t.senders, s.to)
	return true
}

func (t *Transport) sendOne(to memberlist.Address, b []byte) error {
	c := t.mux.Peek(to.Addr, transport.Gossip, to.Name)
	if c == nil {
		ctx, cancel := context.WithTimeout(t.ctx, dialTimeout)
		defer cancel()
		var err error
		if c, err = t.mux.Dial(ctx, to.Addr, transport.Gossip, to.Name); err != nil {
			return err
		}
	}
	// Blocks while 32 datagrams are queued; ends with the connection.
	err := c.SendDatagram(b)
	var tooLarge *quic.DatagramTooLargeError
	if !errors.As(err, &tooLarge) {
		if err == nil {
			t.datagrams.Add(1)
		}
		return err
	}
	ctx, cancel := context.WithTimeout(t.ctx, messageTimeout)
	defer cancel()
	if err := c.SendMessage(ctx, b); err != nil {
		return err
	}
	t.large.Add(1)
	return nil
}

func (t *Transport) serveDatagrams(ctx context.Context, c *transport.Conn) {
	for {
		b, err := c.ReceiveDatagram(ctx)
		if err != nil {
			return
		}
		t.deliver(b, c.RemoteAddr())
	}
}

// serveMessages reads one message after the other: they are rare.
func (t *Transport) serveMessages(ctx context.Context, c *transport.Conn) {
	for {
		r, err := c.AcceptMessage(ctx)
		if err != nil {
			return
		}
		_ = r.SetReadDeadline(time.Now().Add(messageTimeout)) // cannot fail on an open stream
		b, err := io.ReadAll(io.LimitReader(r, maxMessage+1))
		if err != nil || len(b) > maxMessage {
			r.CancelRead(0)
			t.lost.Add(1)
			continue
		}
		t.deliver(b, c.RemoteAddr())
	}
}

// deliver hands memberlist a packet. The peer's address is that of its one
// socket, so memberlist can answer to it.
func (t *Transport) deliver(b []byte, from net.Addr) {
	if len(b) == 0 { // memberlist reads the first byte without asking
		t.lost.Add(1)
		return
	}
	select {
	case t.packets <- &memberlist.Packet{Buf: b, From: from, Timestamp: time.Now()}:
	default:
		t.lost.Add(1)
	}
}
