// Package client is the Go SDK of holdfast: the types of the HTTP API, a
// client that talks to any node of a cluster, retries safely by request ID and
// fails over between addresses.
//
// The types below are the one definition of the API's JSON: the server
// validates against their tags and publishes them as OpenAPI.
package client
