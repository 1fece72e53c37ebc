package main

import (
	"context"
	"fmt"

	"holdfast/chaos/bench/load"
	"holdfast/chaos/cluster"
	"holdfast/client"
)

// driver submits tasks in one way.
type driver struct {
	do    load.Do
	close func()
}

func config(c *cluster.Cluster, nodes ...*cluster.Node) client.Config {
	cfg := client.Config{Token: c.AdminToken, CAPin: c.CAPin}
	for _, n := range nodes {
		cfg.Addrs = append(cfg.Addrs, n.Addr)
	}
	return cfg
}

// rpc submits over the pipelined RPC, count tasks per request.
func rpc(ctx context.Context, cfg client.Config, conns, count int) (*driver, error) {
	p, err := newPayload()
	if err != nil {
		return nil, err
	}
	list := make([]*client.Fast, conns)
	d := &driver{close: func() {
		for _, f := range list {
			if f != nil {
				f.Close()
			}
		}
	}}
	d.do = func(ctx context.Context, c int) (int, error) {
		specs, err := p.encode(count)
		if err != nil {
			return 0, err
		}
		_, err = list[c%conns].SubmitEncoded(ctx, specs)
		return count, err
	}
	for i := range list {
		if list[i], err = client.NewFast(cfg); err == nil {
			_, err = d.do(ctx, i) // connected before the clock starts
		}
		if err != nil {
			d.close()
			return nil, fmt.Errorf("connect over the pipelined RPC: %w", err)
		}
	}
	return d, nil
}

// web submits over HTTPS; each request is made by submit with one of conns
// clients, which have a connection each.
func web(ctx context.Context, cfg client.Config, conns int, submit func(context.Context, *client.Client) (int, error)) (*driver, error) {
	list := make([]*client.Client, conns)
	d := &driver{close: func() {
		for _, c := range list {
			if c != nil {
				c.Close()
			}
		}
	}}
	d.do = func(ctx context.Context, c int) (int, error) { return submit(ctx, list[c%conns]) }
	for i := range list {
		var err error
		if list[i], err = client.New(cfg); err == nil {
			_, err = list[i].Cluster(ctx)
		}
		if err != nil {
			d.close()
			return nil, fmt.Errorf("connect over HTTPS: %w", err)
		}
	}
	return d, nil
}

// one is one request per task.
func one(p *payload) func(context.Context, *client.Client) (int, error) {
	return func(ctx context.Context, c *client.Client) (int, error) {
		spec, err := p.spec()
		if err != nil {
			return 0, err
		}
		_, err = c.Submit(ctx, spec)
		return 1, err
	}
}

// batch is n tasks per request.
func batch(p *payload, n int) func(context.Context, *client.Client) (int, error) {
	return func(ctx context.Context, c *client.Client) (int, error) {
		specs, err := p.specs(n)
		if err != nil {
			return 0, err
		}
		_, err = c.SubmitBatch(ctx, specs)
		return n, err
	}
}

// stream is n lines of one NDJSON request.
func stream(p *payload, n int) func(context.Context, *client.Client) (int, error) {
	return func(ctx context.Context, c *client.Client) (int, error) {
		specs, err := p.specs(n)
		if err != nil {
			return 0, err
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		lines := make(chan client.TaskSpec)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			defer close(lines)
			for _, s := range specs {
				select {
				case lines <- s:
				case <-ctx.Done():
					return
				}
			}
		}()
		done := 0
		for answer, err := range c.SubmitStream(ctx, lines) {
			if err != nil {
				cancel()
				<-sent
				return done, err
			}
			if answer.Problem != nil {
				cancel()
				<-sent
				return done, answer.Problem
			}
			done++
		}
		cancel()
		<-sent
		return done, nil
	}
}
