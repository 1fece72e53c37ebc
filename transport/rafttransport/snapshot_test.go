package rafttransport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
)

func TestInstallSnapshot(t *testing.T) {
	a, b := pair(t)
	for _, size := range []int{0, 10, 5 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			data := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
			args := &raft.InstallSnapshotRequest{RPCHeader: a.header(), SnapshotVersion: raft.SnapshotVersionMax, Term: 10, Leader: []byte("kyle"),
				LastLogIndex: 100, LastLogTerm: 9, Peers: []byte("blah"), Configuration: []byte("conf"), ConfigurationIndex: 7, Size: int64(size)}
			got := make(chan error, 1)
			go func() {
				rpc := <-b.Consumer()
				if d := cmp.Diff(args, rpc.Command); d != "" {
					got <- errors.New(d)
				} else if all, err := io.ReadAll(rpc.Reader); err != nil || !bytes.Equal(all, data) {
					got <- fmt.Errorf("read %d bytes, %w", len(all), err)
				} else {
					got <- nil
				}
				rpc.Respond(&raft.InstallSnapshotResponse{Term: 10, Success: true}, nil)
			}()
			var out raft.InstallSnapshotResponse
			// More bytes than announced: they must not be sent.
			err := a.InstallSnapshot(b.id, b.LocalAddr(), args, &out, io.MultiReader(bytes.NewReader(data), strings.NewReader("surplus")))
			if err != nil {
				t.Fatal(err)
			}
			if err := <-got; err != nil {
				t.Error(err)
			}
			if out.Term != 10 || !out.Success {
				t.Errorf("%+v", out)
			}
		})
	}
}

// A follower in a newer term answers without reading the snapshot.
func TestSnapshotRefusedEarly(t *testing.T) {
	a, b := pair(t)
	respond(t, b, func(raft.RPC) (any, error) { return &raft.InstallSnapshotResponse{Term: 11}, nil })
	size := int64(80 << 20) // more than any window: the sender has to be stopped
	var out raft.InstallSnapshotResponse
	err := a.InstallSnapshot(b.id, b.LocalAddr(), &raft.InstallSnapshotRequest{RPCHeader: a.header(), Term: 10, Size: size}, &out, endless{})
	if err != nil || out.Term != 11 || out.Success {
		t.Errorf("%+v %v", out, err)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// A sender that stalls in the middle of a snapshot must not hold raft's main
// loop, and a short one must not pass for a whole one.
func TestSnapshotStallsAndBreaks(t *testing.T) {
	a, b := pair(t, func(c *Config) { c.Timeout = 2 * time.Second })
	read := make(chan error, 2)
	respond(t, b, func(rpc raft.RPC) (any, error) {
		_, err := io.ReadAll(rpc.Reader)
		if err == nil {
			err = errors.New("all of it came")
		}
		read <- err
		return nil, err
	})
	args := &raft.InstallSnapshotRequest{RPCHeader: a.header(), Size: 100}
	stall, w := io.Pipe()
	defer w.Close()
	failed := make(chan error, 1)
	go func() {
		failed <- a.InstallSnapshot(b.id, b.LocalAddr(), args, new(raft.InstallSnapshotResponse), stall)
	}()
	if err := recv(t, "raft let go", read); !strings.Contains(err.Error(), "deadline") {
		t.Errorf("stalled: %v", err)
	}
	_ = w.CloseWithError(errors.New("disk broke"))
	if err := <-failed; err == nil {
		t.Error("stalled snapshot succeeded")
	}
}
