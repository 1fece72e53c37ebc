package workload

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"holdfast/chaos/history"
	"holdfast/client"
)

func refusal(code, detail string) error {
	return fmt.Errorf("submit: %w", &client.Problem{Type: client.ProblemPrefix + code, Title: code, Detail: detail})
}

func TestOutcome(t *testing.T) {
	full := refusal(client.CodeQueueFull, "")
	leaderless := refusal(client.CodeUnavailable, "the cluster has no leader right now, and nothing was changed: try again")
	silent := refusal(client.CodeUnavailable, "the cluster did not say in time whether this took effect")
	broken := errors.New("connection reset by peer")
	dial := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	for name, c := range map[string]struct {
		tries []error
		want  history.Kind
		code  string
	}{
		"a full queue":                        {[]error{full}, history.Refused, "queue_full"},
		"no leader, and nothing was changed":  {[]error{leaderless}, history.Refused, "unavailable"},
		"no answer from the leader":           {[]error{silent}, history.Unknown, "unavailable"},
		"a node's own fault":                  {[]error{refusal(client.CodeInternal, "")}, history.Unknown, "internal"},
		"an answer that is no problem":        {[]error{&client.Problem{Title: "Bad Gateway"}}, history.Unknown, ""},
		"never sent":                          {[]error{dial, dial}, history.Refused, "unreachable"},
		"broke while it was read":             {[]error{&net.OpError{Op: "read", Err: broken}}, history.Unknown, ""},
		"out of time":                         {[]error{context.DeadlineExceeded}, history.Unknown, ""},
		"broken, then refused":                {[]error{broken, full}, history.Unknown, "queue_full"},
		"no answer, then refused":             {[]error{silent, leaderless}, history.Unknown, "unavailable"},
		"refused, then refused":               {[]error{leaderless, full}, history.Refused, "queue_full"},
		"refused, then broken":                {[]error{full, broken}, history.Unknown, ""},
		"a conflict is an answer of its own":  {[]error{refusal(client.CodeConflict, "")}, history.Refused, "conflict"},
		"nothing was changed, said by a rest": {[]error{refusal(client.CodeInternal, "nothing was changed")}, history.Unknown, "internal"},
	} {
		if k, code := outcome(c.tries); k != c.want || code != c.code {
			t.Errorf("%s: %s %q, want %s %q", name, k, code, c.want, c.code)
		}
	}
}

func TestChoiceKeepsToTheWeights(t *testing.T) {
	c := choose(map[string]int{"a": 1, "b": 0, "c": 3})
	got := map[string]int{}
	for i := range 4 {
		got[c.draw(func(n int) int {
			if n != 4 {
				t.Fatalf("drawn from %d", n)
			}
			return i
		})]++
	}
	if got["a"] != 1 || got["b"] != 0 || got["c"] != 3 {
		t.Errorf("%v", got)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{Nodes: []Target{{"n1", "id", "127.0.0.1:1"}}, Writer: history.NewWriter(nil, nil), CAPin: "sha256:00"}
	if _, err := good.withDefaults(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no nodes":             func(c *Config) { c.Nodes = nil },
		"no history":           func(c *Config) { c.Writer = nil },
		"an unknown operation": func(c *Config) { c.Mix = map[string]int{"destroy": 1} },
		"a negative weight":    func(c *Config) { c.Mix = map[string]int{"get": -1} },
		"no weight at all":     func(c *Config) { c.Mix = map[string]int{"get": 0} },
		"a name with spaces":   func(c *Config) { c.Name = "a b" },
		"an unknown task":      func(c *Config) { c.Ledger, c.Tasks = &Ledger{}, map[string]int{"bomb": 1} },
	} {
		bad := good
		change(&bad)
		if _, err := bad.withDefaults(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
