package storage

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

const childEnv = "HOLDFAST_STORAGE_TEST_DIR"

// childMain appends for ever and says on stdout what was acknowledged.
func childMain() {
	s, err := Open(options(os.Getenv(childEnv)))
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	last, err := s.Logs().LastIndex()
	for i := last + 1; err == nil; i += 3 {
		if err = s.Logs().StoreLogs(entries(i, i+2, 5)); err == nil {
			err = s.Stable().SetUint64([]byte("CurrentTerm"), i)
		}
		fmt.Println("ack", i+2)
	}
	fmt.Println("error", err)
	os.Exit(1)
}

// guards P1: kill -9 in the middle of writing loses nothing acknowledged.
func TestKilledWhileWriting(t *testing.T) {
	o := options(privateDir(t))
	must(t, create(t, o).Close())
	for round := range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+o.Dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		var acked uint64
		sc := bufio.NewScanner(out)
		for n := 0; sc.Scan(); n++ {
			word, rest, _ := strings.Cut(sc.Text(), " ")
			if word != "ack" {
				t.Errorf("child: %s", sc.Text())
				break
			}
			acked, err = strconv.ParseUint(rest, 10, 64)
			must(t, err)
			if n == 40+17*round {
				must(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait() // killed
		s := mustOpen(t, o)
		last, err := s.Logs().LastIndex()
		must(t, err)
		if last < acked || acked == 0 {
			t.Fatalf("round %d: acknowledged %d, kept %d", round, acked, last)
		}
		for i := uint64(1); i <= last; i++ {
			wantEntry(t, s.Logs(), entry(i, 5))
		}
		if term, err := s.Stable().GetUint64([]byte("CurrentTerm")); err != nil || term+2 < acked {
			t.Fatalf("term %d, %v", term, err)
		}
		must(t, s.Close())
	}
}

var _ raft.LogStore = (*logStore)(nil)
