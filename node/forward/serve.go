package forward

import (
	"bufio"
	"context"
	"net"
	"sync"

	"holdfast/fsm"
)

// maxServed bounds the frames of one stream that wait for their entry, and so
// what one follower can hold of the leader's memory.
const maxServed = 2 * inFlight

// Serve is the leader's end of a forwarding stream: it proposes what arrives
// and answers each frame once its commands have committed. It returns when
// the stream ends.
func Serve(ctx context.Context, group Group, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	answers := make(chan answer, maxServed)
	slots := make(chan struct{}, maxServed)
	var writer sync.WaitGroup
	writer.Go(func() { writeAnswers(conn, answers, slots) })

	r := bufio.NewReaderSize(conn, 64<<10)
	var err error
	for {
		slots <- struct{}{} // frames under way, the answers' room included
		var number uint64
		var cmds [][]byte
		if number, cmds, err = readRequest(r); err != nil {
			<-slots
			break
		}
		group.ProposeAsync(cmds, func(results []fsm.Result, index uint64, err error) {
			answers <- answer{number: number, outcome: outcomeOf(err), index: index, results: results}
		})
	}
	for range maxServed { // every frame has been answered, or its answer thrown away
		slots <- struct{}{}
	}
	close(answers)
	writer.Wait()
	return err
}

func writeAnswers(conn net.Conn, answers <-chan answer, slots <-chan struct{}) {
	var buf []byte
	broken := false
	for a := range answers {
		var err error
		if buf, err = appendAnswer(buf[:0], a); err != nil {
			broken = true
		}
		for more := true; more && !broken; { // coalesce what is ready
			select {
			case b, ok := <-answers:
				if !ok {
					more = false
					break
				}
				if buf, err = appendAnswer(buf, b); err != nil {
					broken = true
				}
				<-slots
			default:
				more = false
			}
		}
		if !broken {
			if _, err := conn.Write(buf); err != nil {
				broken = true
				_ = conn.Close() // the reader must notice too
			}
		}
		<-slots
	}
}
