package client_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"holdfast/client"
	"holdfast/client/clienttest"
)

// cluster stands for the reader's own.
func cluster() (*clienttest.Server, *client.Client) {
	s, err := clienttest.Start(3)
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(client.Config{
		Addrs: s.Addrs(),             // any nodes; the client fails over
		Token: clienttest.AdminToken, // from "holdfast token create"
		CAPin: s.CA.Pin(),            // from "holdfast cluster status"
	})
	if err != nil {
		log.Fatal(err)
	}
	return s, c
}

func ExampleClient_Submit() {
	s, c := cluster()
	defer s.Close()
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	task, err := c.Submit(ctx, client.TaskSpec{
		Command:  []string{"echo", "hello"},
		Timeouts: client.Timeouts{Run: client.Duration(time.Minute)},
	})
	if err != nil {
		log.Fatal(err)
	}
	if task, err = c.Wait(ctx, task.ID); err != nil {
		log.Fatal(err)
	}
	out, err := c.Output(ctx, task.ID, client.OutputOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer out.Close()
	fmt.Println(task.State)
	if _, err := io.Copy(os.Stdout, out); err != nil {
		log.Fatal(err)
	}
	// Output:
	// succeeded
	// hello
}

func ExampleClient_SubmitStream() {
	s, c := cluster()
	defer s.Close()
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	specs := make(chan client.TaskSpec)
	go func() {
		defer close(specs)
		for i := range 100 {
			select {
			case specs <- client.TaskSpec{Command: []string{"echo", fmt.Sprint(i)}}:
			case <-ctx.Done():
				return
			}
		}
	}()
	n := 0
	for answer, err := range c.SubmitStream(ctx, specs) {
		if err != nil {
			log.Fatal(err)
		}
		if answer.Problem != nil {
			log.Printf("spec %d: %v", answer.Line, answer.Problem)
			continue
		}
		n++
	}
	fmt.Println(n, "tasks")
	// Output: 100 tasks
}

func ExampleClient_List() {
	s, c := cluster()
	defer s.Close()
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, word := range []string{"a", "b", "c"} {
		if _, err := c.Submit(ctx, client.TaskSpec{Command: []string{"echo", word}}); err != nil {
			log.Fatal(err)
		}
	}
	for task, err := range c.List(ctx, client.ListFilter{States: []string{"succeeded"}, Limit: 2}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(task.ID, task.State)
	}
	// Output:
	// t1 succeeded
	// t2 succeeded
	// t3 succeeded
}

func ExampleIsNotFound() {
	s, c := cluster()
	defer s.Close()
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := c.Get(ctx, "t404")
	fmt.Println(client.IsNotFound(err), client.IsUnavailable(err))
	// Output: true false
}
