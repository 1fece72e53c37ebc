// Package docs reads the project's pages, so that tests can hold them to the
// code: every command of a page is run, every table is compared with what it
// describes.
//
// The first word after a fence is the language; what follows says what the
// test does with the block:
//
//	sh             it is run; every command must succeed
//	sh exit=N      it is run; its last command must end with status N
//	sh background  it is run in a terminal of its own, until the page ends
//	sh manual      it is not run, because it needs another machine, hours, or a
//	               disk that breaks; its commands and flags must exist
//	text output    what the block before prints: each of its lines comes, in
//	               this order, with others between; "..." is anything
//	LANG file=NAME it is written to that file in the page's folder
//
// Any other language is shown and not run. A fence without a language fails the
// test, and so does an indented block: nobody could tell what it is.
//
// All blocks of a page share one shell, one home and one folder, and nothing
// with another page: a reader who starts at its top can paste them one by one.
//
// Goroutines: none here. The tests start one per shell, locked to its thread,
// because that thread's network namespace is the page's own.
package docs
