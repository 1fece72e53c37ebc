package workload

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/chaos/history"
	"holdfast/client"
)

// sampler asks one node what it says of itself and of the cluster. It belongs
// to one goroutine.
type sampler struct {
	l    *Load
	node Target
	cl   *client.Client
	http *http.Client // for what is no part of the API's SDK
}

const (
	// sampleTimeout is short: a node that takes longer is as good as down.
	sampleTimeout = 400 * time.Millisecond
	// hashTimeout has room for a hash over many tasks.
	hashTimeout = 5 * time.Second
	// hashBeats is after how many samples a hash is asked for.
	hashBeats = 10
)

func (l *Load) newSampler(i int) (*sampler, error) {
	n := l.cfg.Nodes[i]
	cl, err := client.New(client.Config{
		Addrs: []string{n.Addr}, Token: l.cfg.Token, CAPin: l.cfg.CAPin, Timeout: hashTimeout,
		Retry: client.Retries{Attempts: 1}, UserAgent: "holdfast-chaos",
	})
	if err != nil {
		return nil, fmt.Errorf("workload: sampler %d: %w", samplerProcess+i, err)
	}
	trust, err := client.TLSConfig(l.cfg.CAPin, nil)
	if err != nil {
		return nil, fmt.Errorf("workload: sampler %d: %w", samplerProcess+i, err)
	}
	return &sampler{l, n, cl, &http.Client{Transport: &http.Transport{TLSClientConfig: trust}}}, nil
}

func (s *sampler) close() {
	s.cl.Close()
	s.http.CloseIdleConnections()
}

func (s *sampler) run(ctx context.Context) {
	beat := 0
	every(ctx, s.l.cfg.SampleEvery, func() {
		if beat++; beat%hashBeats == 1 {
			s.hash(ctx)
			s.host(ctx)
			return
		}
		if st := s.ask(ctx, sampleTimeout); ctx.Err() == nil {
			s.tell(st, "")
		}
	})
}

func (s *sampler) ask(ctx context.Context, timeout time.Duration, opts ...client.CallOption) *client.ClusterStatus {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	st, err := s.cl.Cluster(ctx, opts...)
	if err != nil {
		return nil
	}
	return st
}

// hash asks for the hash of the node's state. The answer does not tell at
// which index that is: only where the node is at the same one before and after
// is it known.
func (s *sampler) hash(ctx context.Context) (uint64, bool) {
	st := s.ask(ctx, hashTimeout, client.StateHash())
	if st == nil {
		if ctx.Err() == nil {
			s.tell(nil, "")
		}
		return 0, false
	}
	after := s.ask(ctx, sampleTimeout)
	if after == nil || after.Index != st.Index {
		s.tell(st, "")
		return 0, false
	}
	s.tell(st, st.StateHash)
	return st.Index, true
}

// host records what the node holds of its host, with what it says itself.
func (s *sampler) host(ctx context.Context) {
	if s.l.cfg.Host == nil {
		return
	}
	c := s.l.cfg.Host(s.node.Name)
	if c == nil {
		return
	}
	if n, err := s.goroutines(ctx); err == nil {
		c.Goroutines = n
	}
	s.l.cfg.Writer.Add(history.Event{Kind: history.Sample, Node: s.node.Name, Counts: c})
}

// maxMetrics bounds what is read of a node's metrics.
const maxMetrics = 4 << 20

func (s *sampler) goroutines(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, hashTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.node.Addr+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+s.l.cfg.Token)
	resp, err := s.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(io.LimitReader(resp.Body, maxMetrics))
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			return strconv.Atoi(text)
		}
	}
	return 0, fmt.Errorf("no go_goroutines in the metrics of %s: status %d", s.node.Name, resp.StatusCode)
}

func (s *sampler) tell(st *client.ClusterStatus, hash string) {
	e := history.Event{Kind: history.Sample, Node: s.node.Name, State: &history.State{Down: st == nil}}
	if st != nil {
		e.Index = st.Index
		e.State = &history.State{
			Leader: s.l.names[st.Leader], Term: st.Term, Role: "replica", Commit: st.CommitIndex,
			Queued: st.Queued, Running: st.Running, Finished: st.Finished, Hash: hash,
		}
		for _, m := range st.Members {
			// Who leads is what the node says of itself, in one breath with the
			// term; the others' roles come from elsewhere and later.
			if m.ID == st.AnsweredBy && m.Role != "leader" {
				e.State.Role = m.Role
			}
		}
		if st.Leader != "" && st.Leader == st.AnsweredBy {
			e.State.Role = "leader"
		}
	}
	s.l.cfg.Writer.Add(e)
}
