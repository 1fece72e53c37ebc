package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"holdfast/client"
)

// The headers of an output. Attempt is what an offset counts in.
const (
	attemptHeader   = "Holdfast-Attempt"
	totalHeader     = "Holdfast-Output-Total"
	endedHeader     = "Holdfast-Output-Ended"
	truncatedHeader = "Holdfast-Output-Truncated"
)

const outputChunk = 32 << 10

func (s *server) registerOutput() {
	register(s, operation{
		id: "get-output", method: http.MethodGet, path: "/v1/tasks/{id}/output", tag: "tasks", long: true, produces: "application/octet-stream",
		summary: "Read a task's output",
		description: "The bytes as the command wrote them, from the worker that keeps them. Headers: " + attemptHeader + " is the attempt; " +
			totalHeader + " is how many bytes there are from offset 0; " + endedHeader + " is true if no more will come; " + truncatedHeader +
			" is true if the command wrote more than was kept. With follow the answer goes on until the attempt ends.",
		problems: []string{client.CodeNotFound, client.CodeUnavailable, client.CodeStaleTooOld},
	}, s.getOutput)
}

type outputInput struct {
	TaskPath
	ReadParams
	Stream  string `query:"stream" enum:"stdout,stderr" default:"stdout"`
	Attempt uint32 `query:"attempt" doc:"Default: the latest"`
	Offset  int64  `query:"offset" minimum:"0" doc:"Bytes to skip"`
	Follow  bool   `query:"follow" doc:"Wait for more until the attempt ends"`
}

func (s *server) getOutput(ctx context.Context, c *call, in *outputInput) (*written, error) {
	id, err := taskID(in.ID)
	if err != nil {
		return nil, err
	}
	fresh, err := s.barrier(ctx, in.ReadParams)
	if err != nil {
		return nil, err
	}
	if _, ok := s.cfg.Backend.State().Task(id); !ok {
		return nil, noTask(id)
	}
	out, info, err := s.cfg.Backend.Output(ctx, OutputRequest{
		Task: id, Attempt: in.Attempt, Stderr: in.Stream == "stderr", Offset: in.Offset, Follow: in.Follow,
	})
	if err != nil {
		return nil, fmt.Errorf("open the output of task %s: %w", id, err)
	}
	defer out.Close()
	h := c.w.Header()
	h.Set("Holdfast-Index", strconv.FormatUint(fresh.Index, 10))
	if fresh.Age != "" {
		h.Set("Holdfast-Age", fresh.Age)
	}
	h.Set(attemptHeader, strconv.FormatUint(uint64(info.Attempt), 10))
	h.Set(totalHeader, strconv.FormatInt(info.Total, 10))
	h.Set(endedHeader, strconv.FormatBool(info.Ended))
	h.Set(truncatedHeader, strconv.FormatBool(info.Truncated))
	c.w.begin("application/octet-stream")
	return nil, send(c.w, out, in.Follow)
}

// send copies an output. To follow, each piece goes out as it comes.
func send(w *response, r io.Reader, follow bool) error {
	if follow {
		if err := w.Flush(); err != nil {
			return fmt.Errorf("send an output: %w", err)
		}
	}
	buf := make([]byte, outputChunk)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return fmt.Errorf("send an output: %w", err)
			}
			if follow {
				if err := w.Flush(); err != nil {
					return fmt.Errorf("send an output: %w", err)
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read an output: %w", err)
		}
	}
}
