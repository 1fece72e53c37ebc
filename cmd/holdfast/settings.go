package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/joho/godotenv"

	"holdfast/client"
)

const connectionHelp = `Where a command connects, first match:
  1. flags: --addr, --socket, --token-file, --ca-pin, --ca-cert, --profile
  2. environment, also from a .env file in the current folder (refused when
     others may read it): HOLDFAST_ADDR, HOLDFAST_SOCKET, HOLDFAST_TOKEN,
     HOLDFAST_TOKEN_FILE, HOLDFAST_CA_PIN, HOLDFAST_CA_CERT, HOLDFAST_PROFILE
  3. the current profile, see 'holdfast config'
  4. the unix socket of a node on this machine: $HOLDFAST_DATA, a running
     'holdfast dev', /var/lib/holdfast
HOLDFAST_ATTEMPTS says how often a call is tried (default 8, some 3.5 s).
`

// connection is what one source says about a cluster; empty fields say
// nothing.
type connection struct {
	Addrs     []string `yaml:"addrs,omitempty" json:"addrs,omitempty"`
	Socket    string   `yaml:"socket,omitempty" json:"socket,omitempty"`
	Token     string   `yaml:"token,omitempty" json:"-"`
	TokenFile string   `yaml:"token_file,omitempty" json:"token_file,omitempty"`
	CAPin     string   `yaml:"ca_pin,omitempty" json:"ca_pin,omitempty"`
	CACert    string   `yaml:"ca_cert,omitempty" json:"ca_cert,omitempty"`
}

func (c connection) names() bool { return len(c.Addrs) > 0 || c.Socket != "" }

// over returns c with what it leaves out taken from low. Alternatives go
// together: an address hides a lower socket, a token a lower token file.
func (c connection) over(low connection) connection {
	if !c.names() {
		c.Addrs, c.Socket = low.Addrs, low.Socket
	}
	if c.Token == "" && c.TokenFile == "" {
		c.Token, c.TokenFile = low.Token, low.TokenFile
	}
	if c.CAPin == "" && c.CACert == "" {
		c.CAPin, c.CACert = low.CAPin, low.CACert
	}
	return c
}

// lookup reads the environment, then .env. An empty variable counts as none:
// that is how shells and service managers clear one.
func (a *app) lookup(key string) (string, bool, error) {
	if v, ok := a.env(key); ok && v != "" {
		return v, true, nil
	}
	m, err := a.dotenv()
	v := m[key]
	return v, v != "", err
}

// readDotenv reads ./.env. It may hold a token, so a file with settings of
// ours that others may read is refused, not just warned about.
func (a *app) readDotenv() (map[string]string, error) {
	f, err := os.Open(".env")
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read .env: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, nil // a folder named .env is somebody's Python
	}
	all, err := godotenv.Parse(f)
	if err != nil {
		// Without the text: godotenv quotes the line, which may be a secret.
		return nil, usagef(".env: it is not a list of KEY=value lines")
	}
	ours := map[string]string{}
	for k, v := range all {
		if strings.HasPrefix(k, "HOLDFAST_") {
			ours[k] = v
		}
	}
	if perm := info.Mode().Perm(); len(ours) > 0 && perm&0o077 != 0 {
		return nil, &exitError{exitRefused, fmt.Errorf(".env: others may read it (mode %04o) and it sets HOLDFAST_ variables; run: chmod 600 .env", perm)}
	}
	return ours, nil
}

func (a *app) envConnection() (connection, error) {
	var c connection
	for key, to := range map[string]*string{
		"HOLDFAST_SOCKET": &c.Socket, "HOLDFAST_TOKEN": &c.Token, "HOLDFAST_TOKEN_FILE": &c.TokenFile,
		"HOLDFAST_CA_PIN": &c.CAPin, "HOLDFAST_CA_CERT": &c.CACert,
	} {
		v, _, err := a.lookup(key)
		if err != nil {
			return c, err
		}
		*to = v
	}
	addr, _, err := a.lookup("HOLDFAST_ADDR")
	c.Addrs = strings.FieldsFunc(addr, func(r rune) bool { return r == ',' || r == ' ' })
	return c, err
}

// resolved is where a command connects and why.
type resolved struct {
	connection
	Source string // for people
}

// resolve finds the connection. A current profile that nobody named now is
// taken whole or not at all: its token must not go to an address that came
// from elsewhere.
func (a *app) resolve() (resolved, error) {
	env, err := a.envConnection()
	if err != nil {
		return resolved{}, err
	}
	c, source := a.conn.over(env), "flags and environment"
	profile := a.profileName
	if profile == "" {
		if profile, _, err = a.lookup("HOLDFAST_PROFILE"); err != nil {
			return resolved{}, err
		}
	}
	if profile != "" || !c.names() {
		p, err := a.loadProfiles()
		if err != nil {
			return resolved{}, err
		}
		if profile == "" {
			profile = p.Current
		}
		if profile != "" {
			found, ok := p.Profiles[profile]
			if !ok {
				return resolved{}, usagef("there is no profile %q in %s; holdfast config list prints them", profile, a.profilesPath())
			}
			c, source = c.over(found), "profile "+profile
		}
	}
	if !c.names() {
		var tried []string
		if c.Socket, tried = a.localSocket(); c.Socket == "" {
			return resolved{}, &exitError{exitUnavailable, fmt.Errorf("no cluster is configured and no node of yours runs on this machine\n  looked for: %s\nStart one with 'holdfast dev', or name a cluster with --addr, HOLDFAST_ADDR or 'holdfast config set'", strings.Join(tried, ", "))}
		}
		source = "local node"
	}
	return resolved{c, source}, nil
}

func (a *app) clientConfig() (client.Config, error) {
	r, err := a.resolve()
	if err != nil {
		return client.Config{}, err
	}
	cfg := client.Config{Addrs: r.Addrs, UnixSocket: r.Socket, Token: r.Token, CAPin: r.CAPin, UserAgent: "holdfast-cli/" + version()}
	if cfg.Retry.Attempts, err = a.attempts(); err != nil {
		return cfg, err
	}
	cfg.OnRetry = func(e client.RetryEvent) {
		// Short waits are not worth a line; a person wonders after a second.
		if a.errTTY && e.Delay >= 400*time.Millisecond {
			a.note("%s: %v; trying again in %v", e.Addr, e.Err, e.Delay.Round(100*time.Millisecond))
		}
	}
	if len(r.Addrs) > 0 && r.Socket != "" {
		return cfg, usagef("an address (%s) and a socket (%s) exclude each other", strings.Join(r.Addrs, ","), r.Socket)
	}
	if cfg.UnixSocket != "" {
		cfg.Addrs, cfg.Token, cfg.CAPin = nil, "", ""
		return cfg, nil
	}
	if r.TokenFile != "" {
		if cfg.Token, err = readSecret(r.TokenFile); err != nil {
			return cfg, err
		}
	}
	if r.CACert != "" {
		if cfg.CACert, err = os.ReadFile(r.CACert); err != nil {
			return cfg, fmt.Errorf("read the CA certificate: %w", err)
		}
	}
	if cfg.Token == "" {
		return cfg, &exitError{exitRefused, fmt.Errorf("no API token for %s: set HOLDFAST_TOKEN, or give --token-file", strings.Join(cfg.Addrs, ", "))}
	}
	return cfg, nil
}

// attempts is how often a call is tried, 0 for the SDK's default.
func (a *app) attempts() (int, error) {
	v, ok, err := a.lookup("HOLDFAST_ATTEMPTS")
	if !ok || err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > 1000 {
		return 0, usagef("HOLDFAST_ATTEMPTS: %q: want a number from 1 to 1000", v)
	}
	return n, nil
}

// maxSecret bounds a file that holds one secret.
const maxSecret = 64 << 10

// readSecret reads a file's one line; others must not be able to.
func readSecret(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("read a secret: %w", err)
	}
	if perm := info.Mode().Perm(); info.Mode().IsRegular() && perm&0o077 != 0 {
		return "", &exitError{exitRefused, fmt.Errorf("%s: others may read it (mode %04o); run: chmod 600 %s", path, perm, path)}
	}
	if info.Size() > maxSecret {
		return "", fmt.Errorf("%s: %d bytes are no secret", path, info.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read a secret: %w", err)
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", fmt.Errorf("%s: it is empty", path)
	}
	return s, nil
}

// devSocket is where a running "holdfast dev" publishes its socket: in the
// user's own folder, so that nobody else can take its place.
func devSocket(env func(string) (string, bool)) []string {
	var out []string
	if dir, ok := env("XDG_RUNTIME_DIR"); ok && dir != "" {
		out = append(out, filepath.Join(dir, "holdfast", "dev.sock"))
	}
	if dir := devData(env); dir != "" {
		out = append(out, filepath.Join(dir, "holdfast.sock"))
	}
	return out
}

// devData is the data folder of "holdfast dev": under the user's data home.
func devData(env func(string) (string, bool)) string {
	if dir, ok := env("XDG_DATA_HOME"); ok && dir != "" {
		return filepath.Join(dir, "holdfast", "dev")
	}
	if home, ok := env("HOME"); ok && home != "" {
		return filepath.Join(home, ".local", "share", "holdfast", "dev")
	}
	return ""
}

// localSocket finds the socket of a node on this machine. It must belong to
// the caller or to root: a stranger's socket could collect what is submitted.
func (a *app) localSocket() (path string, tried []string) {
	if dir, ok, _ := a.lookup("HOLDFAST_DATA"); ok && dir != "" {
		tried = append(tried, filepath.Join(dir, "holdfast.sock"))
	}
	tried = append(tried, devSocket(a.env)...)
	tried = append(tried, "/var/lib/holdfast/holdfast.sock")
	for _, p := range tried {
		info, err := os.Stat(p)
		if err != nil || info.Mode().Type() != os.ModeSocket {
			continue
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || (st.Uid != 0 && int(st.Uid) != os.Getuid()) || !answers(p) {
			continue
		}
		return p, nil
	}
	return "", tried
}
