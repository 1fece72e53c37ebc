package auth

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTokenRoundTrip(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		id, secret, err := NewToken(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		text := FormatToken(id, secret)
		gotID, gotSecret, err := ParseToken(text)
		if err != nil || gotID != id || gotSecret != secret || seen[id] {
			t.Fatalf("%s: got %s, %v", text, gotID, err)
		}
		seen[id] = true
	}
	if _, _, err := NewToken(bytes.NewReader(make([]byte, 10))); err == nil {
		t.Error("a token of too little randomness was made")
	}
}

func TestParseTokenRefuses(t *testing.T) {
	good := FormatToken("abcdefghij", Secret{1, 2, 3})
	if _, _, err := ParseToken(good); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{
		"empty":           "",
		"prefix only":     "hf_",
		"other prefix":    "gh" + good[2:],
		"cut":             good[:len(good)-1],
		"longer":          good + "a",
		"space":           " " + good,
		"line end":        good[:len(good)-1] + "\n",
		"upper case":      strings.ToUpper(good),
		"upper secret":    good[:14] + strings.ToUpper(good[14:]),
		"no separator":    good[:13] + "a" + good[14:],
		"bad id":          "hf_abcdefghi1" + good[13:],
		"bad secret":      good[:20] + "0" + good[21:],
		"spare bits set":  good[:len(good)-1] + "b", // the same 32 bytes in another spelling
		"join token":      "hfj_aaaa",
		"not ASCII":       good[:20] + "é" + good[22:],
		"line end inside": good[:30] + "\n" + good[31:],
	} {
		if _, _, err := ParseToken(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		} else if len(s) > 20 && strings.Contains(err.Error(), s[14:]) {
			t.Errorf("%s: the error repeats the secret: %v", name, err)
		}
	}
	if _, _, err := ParseToken("hfj_aaaa"); !strings.Contains(err.Error(), "holdfast join") {
		t.Errorf("a join token is not recognised: %v", err)
	}
}

func joinToken() JoinToken {
	return JoinToken{ID: "abcdefghij", Secret: Secret{1, 2, 3}, CAPin: [32]byte{9, 8}, Addrs: []string{"10.0.0.1:7400", "node.example:7400"}}
}

func TestJoinToken(t *testing.T) {
	for _, want := range []JoinToken{joinToken(), {ID: "2222222222"}} {
		text, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseJoinToken(" " + text + "\n")
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	}
	text, err := joinToken().Encode()
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("testdata/join.golden")
	if err != nil || strings.TrimSpace(string(golden)) != text {
		t.Errorf("the format changed (%v): tokens that were handed out would no longer do\n%s", err, text)
	}
	// guards the promise of a clear no: every single mistyped letter is found
	for i := range text {
		for _, c := range "aZ2_ " {
			bad := text[:i] + string(c) + text[i+1:]
			if bad == text || strings.TrimSpace(bad) == text {
				continue
			}
			if _, err := ParseJoinToken(bad); !errors.Is(err, ErrMalformed) {
				t.Fatalf("letter %d exchanged for %q: %v", i, c, err)
			}
		}
		if _, err := ParseJoinToken(text[:i]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut to %d letters: %v", i, err)
		}
	}
	if _, err := ParseJoinToken(text[:len(text)-2]); !errors.Is(err, ErrMistyped) {
		t.Errorf("cut: %v", err)
	}
	if _, err := ParseJoinToken(FormatToken("abcdefghij", Secret{})); !strings.Contains(err.Error(), "--role node") {
		t.Errorf("an API token is not recognised: %v", err)
	}
	if _, err := ParseJoinToken(joinPrefix + strings.Repeat("a", maxJoinLen+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("too long: %v", err)
	}
}

func TestJoinTokenRefusesToEncode(t *testing.T) {
	for name, change := range map[string]func(*JoinToken){
		"id":        func(j *JoinToken) { j.ID = "short" },
		"letters":   func(j *JoinToken) { j.ID = "ABCDEFGHIJ" },
		"addresses": func(j *JoinToken) { j.Addrs = make([]string, 17) },
		"empty":     func(j *JoinToken) { j.Addrs = []string{""} },
		"long":      func(j *JoinToken) { j.Addrs = []string{strings.Repeat("a", 256)} },
	} {
		j := joinToken()
		change(&j)
		if text, err := j.Encode(); err == nil {
			t.Errorf("%s: encoded as %s", name, text)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(FormatToken("abcdefghij", Secret{1}))
	f.Add("hf_abcdefghij_")
	f.Fuzz(func(t *testing.T, s string) {
		id, secret, err := ParseToken(s)
		if err == nil && FormatToken(id, secret) != s {
			t.Fatalf("%q is another spelling of %q", s, FormatToken(id, secret))
		}
	})
}

func FuzzParseJoinToken(f *testing.F) {
	text, err := joinToken().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("hfj_")
	f.Fuzz(func(t *testing.T, s string) {
		j, err := ParseJoinToken(s)
		if err != nil {
			return
		}
		if again, err := j.Encode(); err != nil || again != strings.TrimSpace(s) {
			t.Fatalf("%q is another spelling of %q (%v)", s, again, err)
		}
	})
}
