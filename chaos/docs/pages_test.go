package docs_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/chaos/docs"
)

// binary is the holdfast that the pages talk about.
var binary string

var given = flag.String("binary", "", "path of a holdfast to try, instead of building it")

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	// Each page runs up to four nodes: more at a time only starve them.
	if err := flag.Set("test.parallel", "2"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if binary = *given; testing.Short() || binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "holdfast-docs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "holdfast")
	build := exec.Command("go", "build", "-o", binary, "holdfast/cmd/holdfast")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build holdfast:", err)
		return 1
	}
	return m.Run()
}

// needRoot skips where sandboxes and namespaces cannot work, except in CI.
func needRoot(t *testing.T) {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("starts whole clusters")
	case os.Geteuid() == 0:
	case os.Getenv("CI") == "true":
		t.Fatal("these tests need root")
	default:
		t.Skip("needs root")
	}
}

const root = "../.."

// pages are the project's, by name.
func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no pages in docs: %v", err)
	}
	out := map[string]string{}
	for _, f := range append(files, filepath.Join(root, "README.md")) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = string(b)
	}
	return out
}

// patience bounds a whole page. A quiet machine needs a tenth of it.
const patience = 90 * time.Second

// TestPages runs every command of every page, in order.
func TestPages(t *testing.T) {
	for name, text := range pages(t) {
		blocks, err := docs.Blocks(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		t.Run(name, func(t *testing.T) {
			if !runs(blocks) {
				return
			}
			needRoot(t)
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			runPage(t, ctx, newShell(t, binary), name, blocks)
		})
	}
}

func runs(blocks []docs.Block) bool {
	for _, b := range blocks {
		if b.Lang == "sh" && !b.Has("manual") {
			return true
		}
	}
	return false
}

func runPage(t *testing.T, ctx context.Context, s *shell, name string, blocks []docs.Block) {
	t.Helper()
	stop := context.AfterFunc(ctx, s.kill)
	defer stop()
	for i, b := range blocks {
		t.Logf("%s line %d", name, b.Line)
		if file, ok := b.Value("file"); ok {
			if err := os.WriteFile(filepath.Join(s.dir, file), []byte(b.Text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if b.Lang != "sh" || b.Has("manual") {
			continue
		}
		want := ""
		if i+1 < len(blocks) && blocks[i+1].Lang == "text" && blocks[i+1].Has("output") {
			want = blocks[i+1].Text
		}
		if b.Has("background") {
			s.background(t, ctx, b.Text, want)
			continue
		}
		exit, err := b.Exit()
		if err != nil {
			t.Fatalf("%s line %d: %v", name, b.Line, err)
		}
		if err := prints(s.run(t, b.Text, exit), want); err != nil {
			t.Fatalf("%s line %d: %v", name, b.Line, err)
		}
	}
}

// The comparison itself must be able to say no.
func TestPrints(t *testing.T) {
	out := "Cluster    abc\nLeader     x at 1\n\nn1  leader  yes\n"
	for want, ok := range map[string]bool{
		"":                             true,
		"Cluster abc\nn1 leader yes\n": true,
		"Leader ... at ...\n":          true,
		"Leader\n":                     false,
		"n1 leader yes\nCluster abc\n": false,
		"Cluster a.c\n":                false,
		"Cluster abc\nCluster abc\n":   false,
	} {
		if err := prints(out, want); (err == nil) != ok {
			t.Errorf("%q: %v, want %v", want, err, ok)
		}
	}
}

// A page must not speak of another machine's folders or of the tools around
// the project.
func TestPagesLinkToWhatIsThere(t *testing.T) {
	for name, text := range pages(t) {
		dir := filepath.Join(root, "docs")
		if name == "README.md" {
			dir = root
		}
		for _, part := range strings.Split(text, "](")[1:] {
			link, _, _ := strings.Cut(part, ")")
			target, anchor, _ := strings.Cut(link, "#")
			if strings.Contains(link, "://") {
				continue
			}
			file := filepath.Join(dir, target)
			if target == "" {
				file = filepath.Join(dir, name)
			}
			b, err := os.ReadFile(file)
			if err != nil {
				if st, serr := os.Stat(file); serr != nil || !st.IsDir() {
					t.Errorf("%s links to %s, which is not there", name, link)
				}
				continue
			}
			if anchor != "" && !hasHeading(string(b), anchor) {
				t.Errorf("%s links to %s, which has no such heading", name, link)
			}
		}
	}
}

func hasHeading(text, anchor string) bool {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			continue
		}
		var slug strings.Builder
		for _, r := range strings.ToLower(strings.TrimSpace(strings.TrimLeft(line, "#"))) {
			switch {
			case r == ' ':
				slug.WriteByte('-')
			case r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
				slug.WriteRune(r)
			}
		}
		if slug.String() == anchor {
			return true
		}
	}
	return false
}
