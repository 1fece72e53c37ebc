// Package launchtest runs a package's tests in namespaces of their own.
package launchtest

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"holdfast/chaos/fault/launch"
)

// Main is the TestMain of a package whose tests need root. Without root they
// are skipped; where CI is set that is a failure.
func Main(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	launch.RunIfChild()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			fmt.Fprintln(os.Stderr, "these tests need root")
			return 1
		}
		fmt.Println("skipped: these tests need root")
		return 0
	}
	inside, status, err := launch.Private()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if !inside {
		return status
	}
	if status = m.Run(); status == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return status
}
