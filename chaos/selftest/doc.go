// Package selftest asks who checks the checkers: it takes one safeguard after
// the other away from the product and sees whether the simulation notices.
//
// A mutant is a replacement of exact text in one file, which must be there
// once, built through the go command's -overlay: the product's source is not
// touched and holds nothing for it. A mutant whose text is gone fails the
// selftest instead of passing quietly, so whoever changes a safeguard changes
// its mutant.
//
// The selftest needs the module's source and the go command, because the
// simulation runs on testing/synctest, whose bubbles exist only in tests.
//
// It starts no goroutine of its own.
package selftest
