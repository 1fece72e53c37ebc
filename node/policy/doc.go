// Package policy says which role may do what. Default deny: an action without
// a rule is refused to everyone.
//
// Actions are the operation IDs of the HTTP API. A role may do everything that
// the roles below it may: viewer, submitter, operator, admin. The role of join
// tokens (fsm.RoleNode) stands outside that order and may do nothing here.
//
// Ownership: a submitter may cancel its own tasks only. Reading is not divided
// by owner: every viewer sees every task, its spec and its output.
//
// A Policy is immutable and safe for concurrent use.
package policy
