package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"holdfast/node"
)

// NodeCommands is what this program needs of a node. Every method gets a
// validated configuration.
type NodeCommands interface {
	// Init makes the first node of a new cluster in cfg.Data.
	Init(ctx context.Context, cfg node.Config) (*InitReport, error)
	// Join makes a node in cfg.Data that belongs to the cluster which the
	// join token pins, through one of addrs.
	Join(ctx context.Context, cfg node.Config, token string, addrs []string) (*JoinReport, error)
	// Start runs the node of cfg.Data until ctx ends, then drains it. It
	// calls ready once the node serves.
	Start(ctx context.Context, cfg node.Config, ready func(ReadyReport)) error
	// Leave drains the node of cfg.Data and takes it out of its cluster.
	Leave(ctx context.Context, cfg node.Config) error
	// Dev makes a one-node cluster in cfg.Data if there is none, and runs it
	// like Start. It links its socket to socket ("": nowhere).
	Dev(ctx context.Context, cfg node.Config, socket string, ready func(ReadyReport)) error
}

// InitReport is what init prints, this once.
type InitReport struct {
	ClusterID  string `json:"cluster_id"`
	NodeID     string `json:"node_id"`
	CAPin      string `json:"ca_pin"`
	AdminToken string `json:"admin_token"`
	Addr       string `json:"addr"`
	Data       string `json:"data"`
}

// JoinReport is what join prints.
type JoinReport struct {
	ClusterID string `json:"cluster_id"`
	NodeID    string `json:"node_id"`
	Data      string `json:"data"`
}

// ReadyReport is what start and dev print when the node serves.
type ReadyReport struct {
	NodeID string `json:"node_id"`
	Addr   string `json:"addr"`
	Socket string `json:"socket"`
	CAPin  string `json:"ca_pin"`
}

// nodeCommands is set by the file that wires package node in.
var nodeCommands NodeCommands

// nodeFlags override a node's configuration.
type nodeFlags struct {
	config, data, listen, advertise, name, logLevel, logFormat string
	labels                                                     []string
	cpuMillis, memoryBytes                                     int64
}

func (n *nodeFlags) add(f *pflag.FlagSet) {
	d := node.Defaults()
	f.StringVar(&n.config, "config", "", "configuration file (HOLDFAST_CONFIG; default config.yaml in the data folder, if there is one)")
	f.StringVar(&n.data, "data", d.Data, "data folder (HOLDFAST_DATA)")
	f.StringVar(&n.listen, "listen", d.Listen, "host:port, UDP for nodes and TCP for clients (HOLDFAST_LISTEN)")
	f.StringVar(&n.advertise, "advertise", "", "host:port at which others reach this node (HOLDFAST_ADVERTISE; default that of --listen)")
	f.StringVar(&n.name, "name", d.Name, "name, for people (HOLDFAST_NAME)")
	f.StringArrayVar(&n.labels, "label", nil, "key=value, for constraints (repeat; HOLDFAST_LABELS)")
	f.Int64Var(&n.cpuMillis, "cpu-millis", 0, "what tasks may use together, -1 takes none (HOLDFAST_CPU_MILLIS; default all)")
	f.Int64Var(&n.memoryBytes, "memory-bytes", 0, "what tasks may use together, -1 takes none (HOLDFAST_MEMORY_BYTES; default all)")
	f.StringVar(&n.logLevel, "log-level", d.Log.Level, "trace, debug, info, warn, error (HOLDFAST_LOG_LEVEL)")
	f.StringVar(&n.logFormat, "log-format", d.Log.Format, "text or json (HOLDFAST_LOG_FORMAT)")
}

// nodeConfig puts a configuration together: flags before environment before
// file before defaults.
func (a *app) nodeConfig(f *pflag.FlagSet, n *nodeFlags) (node.Config, error) {
	env, err := a.envLookup()
	if err != nil {
		return node.Config{}, err
	}
	cfg := node.Defaults()
	path := n.config
	if path == "" {
		path, _ = env("HOLDFAST_CONFIG")
	}
	if path == "" {
		// The file in the data folder is found by the folder, so the folder
		// cannot come from it.
		data := n.data
		if v, ok := env("HOLDFAST_DATA"); ok && !f.Changed("data") {
			data = v
		}
		if p := filepath.Join(data, "config.yaml"); exists(p) {
			path = p
		}
	}
	if path != "" {
		if cfg, err = node.ReadConfig(path); err != nil {
			return cfg, usagef("%w", err)
		}
	}
	if err := cfg.FromEnv(env); err != nil {
		return cfg, usagef("%w", err)
	}
	for name, set := range map[string]func(){
		"data": func() { cfg.Data = n.data }, "listen": func() { cfg.Listen = n.listen },
		"advertise": func() { cfg.Advertise = n.advertise }, "name": func() { cfg.Name = n.name },
		"cpu-millis": func() { cfg.CPUMillis = n.cpuMillis }, "memory-bytes": func() { cfg.MemoryBytes = n.memoryBytes },
		"log-level": func() { cfg.Log.Level = n.logLevel }, "log-format": func() { cfg.Log.Format = n.logFormat },
	} {
		if f.Changed(name) {
			set()
		}
	}
	if f.Changed("label") {
		if cfg.Labels, err = node.ParseLabels(n.labels); err != nil {
			return cfg, usagef("--label: %w", err)
		}
	}
	if cfg.Data, err = filepath.Abs(cfg.Data); err != nil {
		return cfg, fmt.Errorf("find the data folder: %w", err)
	}
	if err := cfg.Validate(); err != nil {
		return cfg, usagef("the configuration is not valid:\n%w", err)
	}
	return cfg, nil
}

// envLookup is the environment over .env, for package node.
func (a *app) envLookup() (func(string) (string, bool), error) {
	m, err := a.dotenv()
	if err != nil {
		return nil, err
	}
	return func(key string) (string, bool) {
		if v, ok := a.env(key); ok && v != "" {
			return v, true
		}
		v := m[key]
		return v, v != ""
	}, nil
}

type configDoc struct {
	yaml string
	json any
}

// configText gives a configuration as YAML, and as JSON with the same keys.
func configText(cfg node.Config) (configDoc, error) {
	b, err := yaml.Marshal(cfg)
	if err != nil {
		return configDoc{}, fmt.Errorf("print the configuration: %w", err)
	}
	var v any
	if err := yaml.Unmarshal(b, &v); err != nil {
		return configDoc{}, fmt.Errorf("print the configuration: %w", err)
	}
	return configDoc{string(b), v}, nil
}

// nodeCmd makes a command that gets a node's configuration.
func (a *app) nodeCmd(c *cobra.Command, run func(*cobra.Command, node.Config) error) *cobra.Command {
	var f nodeFlags
	f.add(c.Flags())
	c.Args = exactArgs(0)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if a.node == nil {
			return errors.New("this build can only be a client: it was made without the node")
		}
		cfg, err := a.nodeConfig(c.Flags(), &f)
		if err != nil {
			return err
		}
		return run(c, cfg)
	}
	return c
}

func (a *app) initCmd() *cobra.Command {
	var tokenOut string
	c := a.nodeCmd(&cobra.Command{
		Use: "init", Short: "Make the first node of a new cluster",
		Long: `Make the first node of a new cluster in the data folder, and print the pin of
the cluster's CA and the first admin token. The token is not kept and not shown
again. Run 'holdfast start' next, and 'holdfast token create --role node' for
every further node.`,
		Example: `  holdfast init --data /var/lib/holdfast --listen 0.0.0.0:7700 --advertise 10.0.0.1:7700
  holdfast init --admin-token-out ~/admin.token`,
	}, func(c *cobra.Command, cfg node.Config) error {
		r, err := a.node.Init(c.Context(), cfg)
		if err != nil {
			return err
		}
		shown := r.AdminToken
		if tokenOut != "" {
			if err := writePrivate(tokenOut, []byte(r.AdminToken+"\n")); err != nil {
				return fmt.Errorf("%w\nThe admin token could not be written, so here it is, this once: %s", err, r.AdminToken)
			}
			r.AdminToken, shown = "", "written to "+tokenOut
		}
		return a.emit(r, func() {
			a.fields("Cluster", r.ClusterID, "Node", r.NodeID, "Address", r.Addr, "Data", r.Data, "CA pin", r.CAPin, "Admin token", shown)
			a.say("\nThe token is not shown again. Next:\n  holdfast start --data %s", r.Data)
		})
	})
	c.Flags().StringVar(&tokenOut, "admin-token-out", "", "write the admin token to this file, mode 0600, instead of printing it")
	return c
}

func (a *app) joinCmd() *cobra.Command {
	var token, tokenFile string
	c := a.nodeCmd(&cobra.Command{
		Use: "join", Short: "Make a node that belongs to an existing cluster",
		Long: `Make a node in the data folder that belongs to an existing cluster. The node
makes its own key and trusts nothing but the pin in the join token. Run
'holdfast start' next.

The token names nodes of the cluster; with --addr, or HOLDFAST_ADDR, only the
nodes given there are asked. It is read from --join-token-file, HOLDFAST_JOIN_TOKEN or standard input
for "-"; --token is for tokens that are worthless after their one use.`,
		Example: `  holdfast join --join-token-file join.token --listen 10.0.0.2:7700
  ssh first holdfast token create --role node | holdfast join --join-token-file - --listen 10.0.0.2:7700`,
	}, func(c *cobra.Command, cfg node.Config) error {
		t, err := a.joinToken(token, tokenFile)
		if err != nil {
			return err
		}
		addrs := a.conn.Addrs
		if len(addrs) == 0 {
			v, _, err := a.lookup("HOLDFAST_ADDR")
			if err != nil {
				return err
			}
			addrs = strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
		}
		r, err := a.node.Join(c.Context(), cfg, t, addrs)
		if err != nil {
			return err
		}
		return a.emit(r, func() {
			a.fields("Cluster", r.ClusterID, "Node", r.NodeID, "Data", r.Data)
			a.say("\nNext:\n  holdfast start --data %s", r.Data)
		})
	})
	c.Flags().StringVar(&token, "token", "", "the join token; other users of this machine can see it")
	c.Flags().StringVar(&tokenFile, "join-token-file", "", "file with the join token, - for standard input")
	return c
}

func (a *app) joinToken(token, file string) (string, error) {
	switch {
	case token != "" && file != "":
		return "", usagef("--token and --join-token-file exclude each other")
	case token != "":
		return token, nil
	case file == "-":
		return readLine(a.in)
	case file != "":
		return readSecret(file)
	}
	t, _, err := a.lookup("HOLDFAST_JOIN_TOKEN")
	if err == nil && t == "" {
		err = usagef("no join token: an admin makes one with 'holdfast token create --role node'")
	}
	return t, err
}

// readLine reads one line of bounded length.
func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxSecret)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read a token from standard input: %w", err)
	}
	if line = strings.TrimSpace(line); line == "" {
		return "", usagef("no token on standard input")
	}
	return line, nil
}
