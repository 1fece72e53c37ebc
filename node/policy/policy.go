package policy

import (
	"maps"

	"holdfast/fsm"
)

// Rule says who may do one action.
type Rule struct {
	Public bool     // also without a credential
	Least  fsm.Role // the least role that may do it to anything
	Own    fsm.Role // if set: the least role that may do it to what it owns
}

// Policy is a table of rules by action.
type Policy struct {
	rules map[string]Rule
}

// New makes a policy of rules. Actions that are not in them are denied.
func New(rules map[string]Rule) *Policy { return &Policy{rules: maps.Clone(rules)} }

// Default is the policy of every cluster.
func Default() *Policy {
	viewer := Rule{Least: fsm.RoleViewer}
	submitter := Rule{Least: fsm.RoleSubmitter}
	operator := Rule{Least: fsm.RoleOperator}
	admin := Rule{Least: fsm.RoleAdmin}
	return New(map[string]Rule{
		// Probes and the API's description hold nothing of the cluster's work.
		"get-health":       {Public: true},
		"get-ready":        {Public: true},
		"get-openapi":      {Public: true},
		"get-openapi-yaml": {Public: true},

		"get-metrics": viewer,
		"list-tasks":  viewer,
		"get-task":    viewer,
		"wait-task":   viewer,
		"get-output":  viewer,
		"list-nodes":  viewer,
		"get-node":    viewer,
		"get-cluster": viewer,

		"submit-task":   submitter,
		"submit-batch":  submitter,
		"submit-stream": submitter,
		"cancel-task":   {Least: fsm.RoleOperator, Own: fsm.RoleSubmitter},

		"drain-node":          operator,
		"transfer-leadership": operator,

		// A token or a snapshot gives everything that an admin has.
		"remove-node":      admin,
		"list-tokens":      admin,
		"create-token":     admin,
		"revoke-token":     admin,
		"save-snapshot":    admin,
		"restore-snapshot": admin,
	})
}

// Decide reports whether a role may do an action, and if so whether only to
// what the principal owns. Role 0 is a caller without a credential.
func (p *Policy) Decide(action string, role fsm.Role) (allowed, ownOnly bool) {
	rule, ok := p.rules[action]
	switch {
	case !ok:
		return false, false
	case rule.Public || reaches(role, rule.Least):
		return true, false
	case reaches(role, rule.Own):
		return true, true
	}
	return false, false
}

// reaches reports whether a role stands at or above another. The roles are
// spelled out because their numbers are a format, not an order: fsm.RoleNode
// has the highest.
func reaches(role, least fsm.Role) bool {
	return rank(least) > 0 && rank(role) >= rank(least)
}

func rank(role fsm.Role) int {
	switch role {
	case fsm.RoleViewer:
		return 1
	case fsm.RoleSubmitter:
		return 2
	case fsm.RoleOperator:
		return 3
	case fsm.RoleAdmin:
		return 4
	}
	return 0
}
