// Command testlog reads `go test -json` and prints what a person wants: one
// line per package, the whole output of what failed, and a count at the end.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
)

type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

func main() {
	summary := flag.Bool("summary", false, "print the count alone")
	flag.Parse()
	passed, failed, skipped, bad := 0, 0, 0, false
	output := map[string][]string{} // package and test to lines
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 64<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			if !*summary && strings.TrimSpace(in.Text()) != "" {
				fmt.Println(in.Text())
			}
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output":
			output[key] = append(output[key], e.Output)
		case "build-output":
			if !*summary {
				fmt.Print(e.Output)
			}
		case "build-fail":
			bad = true
		case "pass", "skip", "fail":
			if e.Test == "" {
				bad = bad || e.Action == "fail"
				if !*summary && e.Action != "skip" {
					fmt.Printf("%-4s %-40s %6.1fs\n", e.Action, e.Package, e.Elapsed)
					if e.Action == "fail" {
						fmt.Print(strings.Join(output[key], ""))
					}
				}
				break
			}
			switch e.Action {
			case "pass":
				passed++
			case "skip":
				skipped++
			default:
				failed++
			}
			if !*summary && e.Action != "pass" {
				fmt.Print(strings.Join(output[key], ""))
			}
			delete(output, key)
		}
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "testlog:", err)
		os.Exit(1)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	if bad || failed > 0 || passed == 0 {
		os.Exit(1)
	}
}
