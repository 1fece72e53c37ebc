package docs_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/chaos/docs"
	"holdfast/client"
	"holdfast/client/clienttest"
)

// Example is the program of the page on submitting; TestGoExamples compares.
func Example() {
	s, err := clienttest.Start(3)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := hello(ctx, s.Addrs(), clienttest.AdminToken, s.CA.Pin()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// succeeded
	// hello
}

func hello(ctx context.Context, addrs []string, token, pin string) error {
	c, err := client.New(client.Config{
		Addrs: addrs, // any nodes; the client fails over
		Token: token, // from "holdfast token create"
		CAPin: pin,   // from "holdfast cluster status"
	})
	if err != nil {
		return err
	}
	defer c.Close()

	task, err := c.Submit(ctx, client.TaskSpec{
		Command:  []string{"echo", "hello"},
		Timeouts: client.Timeouts{Run: client.Duration(time.Minute)},
	}, client.IdempotencyKey("hello-1"))
	if err != nil {
		return err
	}
	if task, err = c.Wait(ctx, task.ID); err != nil {
		return err
	}
	out, err := c.Output(ctx, task.ID, client.OutputOptions{})
	if err != nil {
		return err
	}
	defer out.Close()
	fmt.Println(task.State)
	_, err = io.Copy(os.Stdout, out)
	return err
}

// TestGoExamples wants every Go block of the pages to be part of this file,
// which is compiled and run.
func TestGoExamples(t *testing.T) {
	b, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	code, n := flat(string(b)), 0
	for name, text := range pages(t) {
		blocks, err := docs.Blocks(text)
		if err != nil {
			continue // TestPages says so
		}
		for _, b := range blocks {
			if b.Lang != "go" {
				continue
			}
			n++
			if !strings.Contains(code, flat(b.Text)) {
				t.Errorf("%s line %d: the example is not in example_test.go", name, b.Line)
			}
		}
	}
	if n == 0 {
		t.Error("no page has an example in Go: this test looks in the wrong place")
	}
}

// flat takes the indentation away.
func flat(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		out = append(out, strings.TrimSpace(line))
	}
	return strings.Join(out, "\n")
}
