package gameday

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxOrder bounds a request.
const maxOrder = 64 << 10

// Handler is the guardian's HTTP. Orders carry their own proof, and what it
// says of itself is no secret, so that it needs neither TLS nor a token.
func (g *Guardian) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /order", func(w http.ResponseWriter, r *http.Request) {
		var s Signed
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrder)).Decode(&s); err != nil {
			http.Error(w, "this is no order: "+err.Error(), http.StatusBadRequest)
			return
		}
		if err := g.Do(r.Context(), &s); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		g.tell(w)
	})
	mux.HandleFunc("GET /report", func(w http.ResponseWriter, _ *http.Request) { g.tell(w) })
	return mux
}

func (g *Guardian) tell(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(g.Report()) // the tester asks again
}

// callTimeout bounds one call to a guardian.
const callTimeout = 5 * time.Second

// ask reads a guardian's report.
func ask(ctx context.Context, addr string) (*Report, error) {
	return call(ctx, http.MethodGet, addr, "/report", nil)
}

// send gives a guardian an order.
func send(ctx context.Context, addr string, s *Signed) (*Report, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return call(ctx, http.MethodPost, addr, "/order", b)
}

func call(ctx context.Context, method, addr, path string, body []byte) (*Report, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the guardian at %s: %w", addr, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxOrder))
	if err != nil {
		return nil, fmt.Errorf("ask the guardian at %s: %w", addr, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the guardian at %s: %w", addr, errors.New(strings.TrimSpace(string(b))))
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("the guardian at %s: %w", addr, err)
	}
	return &r, nil
}
