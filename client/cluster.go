package client

import "time"

// Node is a node as the API shows it.
type Node struct {
	ID              string            `json:"id"`
	Name            string            `json:"name,omitempty"`
	Addr            string            `json:"addr" doc:"host:port, UDP between nodes and TCP for clients"`
	Version         string            `json:"version,omitempty"`
	State           string            `json:"state" enum:"ready,draining,lost,removed"`
	Role            string            `json:"role" enum:"leader,voter,replica,worker" doc:"Its part in the raft group"`
	CPUMillis       int               `json:"cpu_millis"`
	MemoryBytes     int64             `json:"memory_bytes"`
	UsedCPUMillis   int               `json:"used_cpu_millis"`
	UsedMemoryBytes int64             `json:"used_memory_bytes"`
	Running         int               `json:"running" doc:"Attempts running there"`
	Labels          map[string]string `json:"labels,omitempty"`
	Abilities       []string          `json:"abilities,omitempty" doc:"What its sandbox enforces"`
	Weaker          []string          `json:"weaker,omitempty" doc:"Walls that its sandboxes do without, by its sandbox.allow_missing"`
	Gossip          string            `json:"gossip,omitempty" enum:"alive,suspect,dead,left,unknown" doc:"A hint; only commands change membership"`
}

// NodeList is every node.
type NodeList struct {
	Nodes []Node `json:"nodes"`
	Index uint64 `json:"index"`
}

// DrainRequest stops or again allows new attempts on a node.
type DrainRequest struct {
	Drain bool `json:"drain"`
}

// ClusterStatus is the cluster as the answering node sees it.
type ClusterStatus struct {
	ClusterID    string   `json:"cluster_id"`
	Leader       string   `json:"leader,omitempty" doc:"Node ID; empty while there is none"`
	LeaderAddr   string   `json:"leader_addr,omitempty"`
	Term         uint64   `json:"term"`
	Index        uint64   `json:"index" doc:"Last applied log index here"`
	CommitIndex  uint64   `json:"commit_index"`
	AnsweredBy   string   `json:"answered_by"`
	Members      []Member `json:"members"`
	Tolerates    int      `json:"tolerates" doc:"Voters that may fail before writes stop"`
	Queued       int      `json:"queued"`
	Running      int      `json:"running"`
	Finished     int      `json:"finished" doc:"Terminal tasks still kept"`
	FeatureLevel int      `json:"feature_level"`
	CAPin        string   `json:"ca_pin" doc:"SHA-256 of the cluster CA's public key"`
	StateHash    string   `json:"state_hash,omitempty" doc:"Hash of the state at index; only if asked for"`
}

// Member is one server of the raft group.
type Member struct {
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	Addr    string `json:"addr"`
	Role    string `json:"role" enum:"leader,voter,replica"`
	Healthy bool   `json:"healthy"`
}

// Token is an API or join token without its secret.
type Token struct {
	ID        string     `json:"id"`
	Name      string     `json:"name,omitempty"`
	Role      string     `json:"role" enum:"viewer,submitter,operator,admin,node"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	UsesLeft  *int       `json:"uses_left,omitempty" doc:"Join tokens: nodes that may still join"`
}

// TokenRequest asks for a new token.
type TokenRequest struct {
	Name string   `json:"name,omitempty" maxLength:"128"`
	Role string   `json:"role" enum:"viewer,submitter,operator,admin,node"`
	TTL  Duration `json:"ttl,omitempty" doc:"Empty: never expires; join tokens default to 1h"`
	Uses int      `json:"uses,omitempty" minimum:"0" maximum:"10000" doc:"Join tokens: how many nodes may join; default 1"`
}

// NewToken is a token with its secret, shown this once.
type NewToken struct {
	Token
	Secret string `json:"secret" doc:"The whole token to present; it is not stored and cannot be shown again"`
}

// TokenList is every token.
type TokenList struct {
	Tokens []Token `json:"tokens"`
	Index  uint64  `json:"index"`
}
