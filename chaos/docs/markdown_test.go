package docs_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/chaos/docs"
)

func TestBlocks(t *testing.T) {
	page := "# A\n\n```sh exit=3\na\nb\n```\n\ntext\n\n```yaml file=x.yaml\nk: v\n```\n"
	got, err := docs.Blocks(page)
	if err != nil {
		t.Fatal(err)
	}
	want := []docs.Block{
		{Line: 3, Lang: "sh", Marks: []string{"exit=3"}, Text: "a\nb\n"},
		{Line: 10, Lang: "yaml", Marks: []string{"file=x.yaml"}, Text: "k: v\n"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	if code, err := got[0].Exit(); code != 3 || err != nil {
		t.Fatal(code, err)
	}
}

func TestBlocksThatNobodyCanTell(t *testing.T) {
	for page, want := range map[string]string{
		"a\n\n```\nb\n```\n": "line 3: the fence names no language",
		"a\n\n    make\n":    "line 3: an indented block",
		"```sh\na\n":         "line 1: the fence is not closed",
	} {
		if _, err := docs.Blocks(page); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", page, err, want)
		}
	}
}

func TestTable(t *testing.T) {
	page := "# A\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\n## B\n\nsome text\n\n| k | v |\n|---|---|\n| `a` | b `c` |\n| d \\| e | `f` or `g` |\n\nmore\n"
	got, err := docs.Table(page, "B")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([][]string{{"a", "b `c`"}, {"d | e", "`f` or `g`"}}, got); d != "" {
		t.Fatal(d)
	}
	if _, err := docs.Table(page, "C"); err == nil {
		t.Fatal("a table was found where there is none")
	}
}
