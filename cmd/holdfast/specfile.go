package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"

	"holdfast/client"
)

// maxYAML bounds a YAML file, which is read whole; JSON is read as a stream.
const maxYAML = 64 << 20

// specReader yields specs one by one; io.EOF after the last.
type specReader func() (client.TaskSpec, error)

// openSpecs opens a file of specs, "-" for in: one JSON object, an array, any
// number of objects one after the other (NDJSON), or YAML documents, each a
// spec or a list of specs.
func openSpecs(path string, in io.Reader) (specReader, io.Closer, error) {
	var f io.ReadCloser = io.NopCloser(in)
	name := "standard input"
	if path != "-" {
		var err error
		if f, err = os.Open(path); err != nil {
			return nil, nil, fmt.Errorf("read specs: %w", err)
		}
		name = path
	}
	r := bufio.NewReaderSize(f, 64<<10)
	isYAML := false
	switch filepath.Ext(path) {
	case ".yaml", ".yml":
		isYAML = true
	default:
		first, err := firstByte(r)
		if err != nil {
			f.Close()
			if errors.Is(err, io.EOF) {
				return nil, nil, usagef("%s: it is empty, want task specs as JSON or YAML", name)
			}
			return nil, nil, fmt.Errorf("read %s: %w", name, err)
		}
		isYAML = first != '{' && first != '['
	}
	if isYAML {
		next, err := yamlSpecs(name, r)
		return next, f, err
	}
	return jsonSpecs(name, r), f, nil
}

// firstByte skips white space and peeks.
func firstByte(r *bufio.Reader) (byte, error) {
	for {
		b, err := r.Peek(1)
		if err != nil {
			return 0, err
		}
		switch b[0] {
		case ' ', '\t', '\r', '\n':
			_, _ = r.Discard(1) // it was peeked
		default:
			return b[0], nil
		}
	}
}

func jsonSpecs(name string, r io.Reader) specReader {
	d := json.NewDecoder(r)
	n, inArray := 0, false
	first, done := true, false
	return func() (client.TaskSpec, error) {
		var spec client.TaskSpec
		if done {
			return spec, io.EOF
		}
		n++
		var raw json.RawMessage
		if first {
			first = false
			if b, err := firstByteOf(r, d); err == nil && b == '[' {
				inArray = true
				if _, err := d.Token(); err != nil {
					return spec, badSpec(name, n, err)
				}
			}
		}
		if inArray && !d.More() {
			_, err := d.Token() // the closing bracket
			done = true
			if err == nil {
				if _, err = d.Token(); errors.Is(err, io.EOF) {
					return spec, io.EOF
				}
				err = errors.New("something follows the array")
			}
			return spec, badSpec(name, n, err)
		}
		if err := d.Decode(&raw); err != nil {
			done = true
			if errors.Is(err, io.EOF) && !inArray {
				return spec, io.EOF
			}
			return spec, badSpec(name, n, err)
		}
		spec, err := strictSpec(raw)
		if err != nil {
			done = true
			return spec, badSpec(name, n, err)
		}
		return spec, nil
	}
}

// firstByteOf peeks at what d will read first.
func firstByteOf(r io.Reader, d *json.Decoder) (byte, error) {
	if br, ok := r.(*bufio.Reader); ok && d.InputOffset() == 0 {
		return firstByte(br)
	}
	return 0, io.EOF
}

func badSpec(name string, n int, err error) error {
	return usagef("%s: spec %d: %w", name, n, err)
}

// strictSpec refuses unknown fields and duplicate keys: a mistyped limit must
// not pass in silence.
func strictSpec(raw []byte) (client.TaskSpec, error) {
	var spec client.TaskSpec
	if err := duplicateKey(json.NewDecoder(bytes.NewReader(raw)), ""); err != nil {
		return spec, err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&spec); err != nil {
		return spec, err
	}
	return spec, nil
}

// duplicateKey walks one value and refuses an object with a key twice. Depth
// is bounded by the decoder, which checked raw before.
func duplicateKey(d *json.Decoder, at string) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		in := at
		if delim == '{' {
			k, err := d.Token()
			if err != nil {
				return err
			}
			key, _ := k.(string) // an object's key is a string
			if seen[key] {
				return fmt.Errorf("key %q appears twice", at+key)
			}
			seen[key] = true
			in = at + key + "."
		}
		if err := duplicateKey(d, in); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

func yamlSpecs(name string, r io.Reader) (specReader, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxYAML+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxYAML {
		return nil, usagef("%s: more than %d MiB of YAML; use NDJSON, which is read as a stream", name, maxYAML>>20)
	}
	var all []any
	for d := yaml.NewDecoder(bytes.NewReader(b)); ; {
		var doc any
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, usagef("%s: %s", name, yaml.FormatError(err, false, true))
		}
		if list, ok := doc.([]any); ok {
			all = append(all, list...)
		} else if doc != nil {
			all = append(all, doc)
		}
	}
	n := 0
	return func() (client.TaskSpec, error) {
		if n == len(all) {
			return client.TaskSpec{}, io.EOF
		}
		n++
		raw, err := json.Marshal(all[n-1])
		if err != nil {
			return client.TaskSpec{}, badSpec(name, n, err)
		}
		spec, err := strictSpec(raw)
		if err != nil {
			return spec, badSpec(name, n, err)
		}
		return spec, nil
	}, nil
}
