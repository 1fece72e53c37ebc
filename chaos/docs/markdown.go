package docs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Block is one fenced block of a page.
type Block struct {
	Line  int // of the opening fence, from 1
	Lang  string
	Marks []string // the words after the language
	Text  string
}

// Has reports whether the block bears a mark.
func (b Block) Has(mark string) bool { return slices.Contains(b.Marks, mark) }

// Value gives what follows "key=" in a mark.
func (b Block) Value(key string) (string, bool) {
	for _, m := range b.Marks {
		if v, ok := strings.CutPrefix(m, key+"="); ok {
			return v, true
		}
	}
	return "", false
}

// Exit is the status that the block's last command must end with.
func (b Block) Exit() (int, error) {
	v, ok := b.Value("exit")
	if !ok {
		return 0, nil
	}
	return strconv.Atoi(v)
}

// Blocks gives the fenced blocks of a page. An error names the line of a block
// whose kind cannot be told.
func Blocks(page string) ([]Block, error) {
	var out []Block
	var open *Block
	blank := true
	for i, line := range strings.Split(page, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case open == nil && isFence:
			words := strings.Fields(fence)
			if len(words) == 0 {
				return nil, fmt.Errorf("line %d: the fence names no language", i+1)
			}
			open = &Block{Line: i + 1, Lang: words[0], Marks: words[1:]}
		case isFence:
			out = append(out, *open)
			open = nil
		case open != nil:
			open.Text += line + "\n"
		case blank && strings.HasPrefix(line, "    ") && strings.TrimSpace(line) != "":
			return nil, fmt.Errorf("line %d: an indented block; fence it and name its language", i+1)
		}
		blank = strings.TrimSpace(line) == ""
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: the fence is not closed", open.Line)
	}
	return out, nil
}

// Table gives the rows, without the head, of the first table below a heading.
// Backquotes around a cell are removed.
func Table(page, heading string) ([][]string, error) {
	below := false
	var rows [][]string
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
			below = strings.TrimSpace(strings.TrimLeft(line, "#")) == heading
		case below && strings.HasPrefix(line, "|"):
			rows = append(rows, cells(line))
		case below && len(rows) > 0:
			return rows[min(2, len(rows)):], nil
		}
	}
	if len(rows) < 3 {
		return nil, fmt.Errorf("no table below the heading %q", heading)
	}
	return rows[2:], nil
}

func cells(line string) []string {
	line = strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00")
	var out []string
	for c := range strings.SplitSeq(line, "|") {
		c = strings.TrimSpace(strings.ReplaceAll(c, "\x00", "|"))
		if strings.Count(c, "`") == 2 && strings.HasPrefix(c, "`") && strings.HasSuffix(c, "`") {
			c = strings.Trim(c, "`")
		}
		out = append(out, c)
	}
	return out
}
