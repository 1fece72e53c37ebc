package api

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"holdfast/client"
	"holdfast/client/frames"
	"holdfast/fsm"
)

// feed is a client's side of a session in memory: it hands out frames, some at
// a time as packets would bring them, and counts the bytes of the answers.
type feed struct {
	hello  []byte
	frames [][]byte
	n, at  int
	each   int // frames per read
}

func (f *feed) Read(b []byte) (int, error) {
	if f.hello != nil {
		n := copy(b, f.hello)
		f.hello = nil
		return n, nil
	}
	n := 0
	for i := 0; i < f.each && f.at < f.n; i++ {
		frame := f.frames[f.at%len(f.frames)]
		if len(frame) > len(b)-n {
			break
		}
		n += copy(b[n:], frame)
		f.at++
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (f *feed) Write(b []byte) (int, error)      { return len(b), nil }
func (f *feed) SetReadDeadline(time.Time) error  { return nil }
func (f *feed) SetWriteDeadline(time.Time) error { return nil }

// instant is a Backend whose log takes whatever comes, an entry at a time.
type instant struct {
	*memory
	queue chan func(fsm.Result, uint64, error)
}

func (b instant) ProposeAsync(_ time.Time, _ []byte, done func(fsm.Result, uint64, error)) {
	b.queue <- done
}

func (b instant) run() {
	first := fsm.TaskID(1)
	for done := range b.queue {
		done(fsm.Result{First: first, Count: 1}, uint64(first), nil)
		first++
	}
}

type quiet struct{ journalAudit }

func (quiet) End(string, string, string, string, string) {}

// BenchmarkFast is what one submission of 128 bytes costs this half of the
// RPC: decoding, checks, the command, the answer; no network, log or audit.
func BenchmarkFast(b *testing.B) {
	specs := map[string]func(i int) client.TaskSpec{
		"plain": func(i int) client.TaskSpec {
			return client.TaskSpec{Command: []string{"true", fmt.Sprintf("%0128d", i)}}
		},
		"rich": func(i int) client.TaskSpec {
			return client.TaskSpec{
				Name: fmt.Sprint("job-", i), Command: []string{"python", "-m", "job", fmt.Sprintf("%0128d", i)},
				Env: map[string]string{"HOME": "/tmp", "STAGE": "test"}, Labels: map[string]string{"team": "a"},
				Resources: client.Resources{CPUMillis: 100, MemoryBytes: 64 << 20}, Retry: client.Retry{Limit: 3},
				Timeouts: client.Timeouts{Run: client.Duration(time.Minute)},
			}
		},
	}
	for name, spec := range specs {
		for _, each := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/%dPerRead", name, each), func(b *testing.B) {
				backend := instant{newMemory(b), make(chan func(fsm.Result, uint64, error), 1024)}
				go backend.run()
				defer close(backend.queue)
				s, err := New(Config{
					Backend: backend, Authenticator: words{}, Audit: quiet{journalAudit{&journal{}}}, Minter: &counterMinter{},
					Policy: ladder{"submit-task": 2}, Limits: Limits{RatePerSecond: 1e12, Burst: 1 << 40},
				})
				if err != nil {
					b.Fatal(err)
				}
				f := &feed{n: b.N, each: each}
				if f.hello, err = frames.Append(nil, frames.Hello{Version: 1, Token: "ann:submitter"}); err != nil {
					b.Fatal(err)
				}
				for i := range 1000 {
					raw, err := client.EncodeSpec(spec(i))
					if err != nil {
						b.Fatal(err)
					}
					frame, err := frames.Append(nil, frames.Request{Number: uint64(i + 1), Method: frames.Submit, Specs: []cbor.RawMessage{raw}, Key: fmt.Sprintf("%026d", i)})
					if err != nil {
						b.Fatal(err)
					}
					f.frames = append(f.frames, frame)
				}
				b.ReportAllocs()
				b.ResetTimer()
				if err := s.ServeFast(b.Context(), f, "10.0.0.1:1"); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
