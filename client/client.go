package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxAnswer bounds an answer that is read whole: a page of a thousand
	// tasks with 64 KiB specs fits.
	maxAnswer = 128 << 20
	// maxProblem bounds the body of a refusal.
	maxProblem = 1 << 20
	// dialTimeout is short: there is another address to try.
	dialTimeout = 3 * time.Second
	// idleTimeout closes unused connections.
	idleTimeout = 90 * time.Second

	indexHeader = "Holdfast-Index"
	ageHeader   = "Holdfast-Age"
)

// Client talks to one cluster. Make it with New; safe for concurrent use.
type Client struct {
	cfg Config
	*retrier
	http   *http.Client
	scheme string
	index  atomic.Uint64 // highest index seen
}

// New checks cfg and returns a client. It does not connect.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, scheme: "https"}
	if cfg.UnixSocket != "" {
		c.scheme = "http"
		c.retrier = newRetrier(cfg, []string{cfg.UnixSocket})
	} else {
		addrs, err := parseAddrs(cfg.Addrs)
		if err != nil {
			return nil, err
		}
		c.retrier = newRetrier(cfg, addrs)
	}
	rt := cfg.transport
	if rt == nil {
		if rt, err = newTransport(cfg); err != nil {
			return nil, err
		}
	}
	c.http = &http.Client{
		Transport: rt,
		// The API never redirects; following one would carry the token away.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func newTransport(cfg Config) (*http.Transport, error) {
	d := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	t := &http.Transport{
		DialContext:         d.DialContext,
		TLSHandshakeTimeout: dialTimeout,
		IdleConnTimeout:     idleTimeout,
		MaxIdleConnsPerHost: 8,
		ForceAttemptHTTP2:   true,
		// A dead node behind a live connection is found by HTTP/2 pings.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 3 * time.Second},
	}
	if cfg.UnixSocket != "" {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", cfg.UnixSocket)
		}
		return t, nil
	}
	tc, err := tlsConfig(cfg.CAPin, cfg.CACert, cfg.now)
	if err != nil {
		return nil, err
	}
	t.TLSClientConfig = tc
	return t, nil
}

// Close drops idle connections. Calls under way end by their own contexts.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// LastIndex returns the highest log index that any answer has named.
func (c *Client) LastIndex() uint64 { return c.index.Load() }

func (c *Client) saw(index uint64) {
	for {
		old := c.index.Load()
		if index <= old || c.index.CompareAndSwap(old, index) {
			return
		}
	}
}

// request is one HTTP request without its address.
type request struct {
	method, path string
	query        url.Values
	header       http.Header
	body         io.Reader // read once: a new request per attempt
	length       int64     // of body; -1 unknown
}

// open sends r to addr and returns the answer if its status is 2xx.
func (c *Client) open(ctx context.Context, addr string, r request) (*http.Response, error) {
	host := addr
	if c.cfg.UnixSocket != "" {
		host = "localhost"
	}
	if strings.Contains(r.path, "//") || strings.HasSuffix(r.path, "/") || strings.Contains(r.path+"/", "/../") {
		return nil, &permanentError{errors.New("the ID is empty or no ID")}
	}
	u := c.scheme + "://" + host + r.path
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, r.body)
	if err != nil {
		return nil, &permanentError{err}
	}
	if r.length != 0 {
		req.ContentLength = r.length
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	if c.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // the address and method are told elsewhere
		}
		return nil, err
	}
	a := Answer{Addr: addr, Status: resp.StatusCode, Age: -1}
	if i, err := strconv.ParseUint(resp.Header.Get(indexHeader), 10, 64); err == nil {
		a.Index = i
		c.saw(i)
	}
	if c.cfg.OnAnswer != nil {
		if s, err := strconv.ParseFloat(resp.Header.Get(ageHeader), 64); err == nil {
			a.Age = time.Duration(s * float64(time.Second))
		}
		c.cfg.OnAnswer(a)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.problem(resp)
}

// problem reads a refusal.
func (c *Client) problem(resp *http.Response) error {
	p := &Problem{}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err != nil || json.Unmarshal(b, p) != nil || p.Title == "" {
		p = &Problem{Title: http.StatusText(resp.StatusCode), Detail: fmt.Sprintf("status %d without a problem document; is this a holdfast node?", resp.StatusCode)}
	}
	p.Status = resp.StatusCode
	return &answerError{p, parseRetryAfter(resp.Header.Get("Retry-After"), c.cfg.now())}
}

// get reads path into out.
func (c *Client) get(ctx context.Context, op, path string, query url.Values, out any) error {
	return c.unary(ctx, op, request{method: http.MethodGet, path: path, query: query}, nil, out, c.cfg.Timeout)
}

// mutate sends in (nil: no body) with one idempotency key for all attempts.
func (c *Client) mutate(ctx context.Context, op, method, path string, in, out any, opts []CallOption) error {
	h, err := writeHeader(opts)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("%s: encode the request: %w", op, err)
		}
		h.Set("Content-Type", "application/json")
	}
	return c.unary(ctx, op, request{method: method, path: path, header: h}, body, out, c.cfg.Timeout)
}

// unary runs a call with one answer, decoded into out within the attempt, so
// that an answer that breaks off is tried again.
func (c *Client) unary(ctx context.Context, op string, r request, body []byte, out any, timeout time.Duration) error {
	return c.try(ctx, op, func(ctx context.Context, addr string) error {
		actx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
		defer cancel()
		if body != nil {
			r.body, r.length = bytes.NewReader(body), int64(len(body))
		}
		err := c.exchange(actx, addr, r, out)
		if err != nil && actx.Err() != nil && ctx.Err() == nil {
			return context.Cause(actx)
		}
		return err
	})
}

func (c *Client) exchange(ctx context.Context, addr string, r request, out any) error {
	resp, err := c.open(ctx, addr, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if len(b) > maxAnswer {
		return &permanentError{fmt.Errorf("answer of more than %d bytes", maxAnswer)}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return &permanentError{fmt.Errorf("decode the answer: %w", err)}
	}
	return nil
}
