//go:build race

package e2e

// raceBuild has the binary under test find races as well.
const raceBuild = true
