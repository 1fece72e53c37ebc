package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"holdfast/client"
)

// document is the API's description in one format, made once: huma's own
// route makes it at the first request, which two requests do at a time.
type document struct {
	contentType string
	body        []byte
}

const (
	openAPIJSON = "application/vnd.oai.openapi+json;version=3.1"
	openAPIYAML = "application/vnd.oai.openapi;version=3.1"
)

const description = `Every node serves this API. Submissions are durable when they are answered.

Reads are linearizable unless consistency=stale; every answer carries the log index that it reflects in Holdfast-Index, and min_index asks for at least that one. Writes take an Idempotency-Key, with which they may be sent again. Every refusal is an RFC 9457 problem whose type is stable; 429 and 503 say in Retry-After when to try again.`

func newHuma(mux *http.ServeMux, version string) huma.API {
	format := huma.Format{
		Marshal: func(w io.Writer, v any) error {
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false)
			return enc.Encode(v)
		},
		// Bodies are decoded by the operations; see decode.
		Unmarshal: func(data []byte, v any) error { return asError(decode(data, v)) },
	}
	oapi := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info:    &huma.Info{Title: "holdfast", Version: version, Description: description},
		Components: &huma.Components{
			Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"token": {Type: "http", Scheme: "bearer", Description: "A token, as in hf_<id>_<secret>. The unix socket of the data folder needs none."},
			},
		},
	}
	return humago.New(mux, huma.Config{
		OpenAPI: oapi,
		// The second name is what huma looks for behind application/problem+json.
		Formats:                      map[string]huma.Format{jsonType: format, "json": format},
		DefaultFormat:                jsonType,
		RejectUnknownQueryParameters: true,
		Transformers: []huma.Transformer{func(_ huma.Context, _ string, v any) (any, error) {
			if m, ok := v.(*huma.ErrorModel); ok {
				return fromHuma(m), nil
			}
			return v, nil
		}},
	})
}

// asError keeps a nil problem from becoming an error that is not nil.
func asError(p *problem) error {
	if p == nil {
		return nil
	}
	return p
}

// always are the problems that every operation with a principal can answer.
var always = []string{
	client.CodeInvalid, client.CodeUnauthenticated, client.CodeTokenExpired, client.CodeForbidden,
	client.CodeRateLimited, client.CodeOverloaded, client.CodeInternal,
}

// describeOperation turns an operation into huma's, with its problems by
// status.
func (s *server) describeOperation(op operation) huma.Operation {
	hop := huma.Operation{
		OperationID: op.id, Method: op.method, Path: op.path, Tags: []string{op.tag},
		Summary: op.summary, Description: op.description, DefaultStatus: op.status,
		Responses: map[string]*huma.Response{},
	}
	if op.produces != "" {
		hop.DefaultStatus = http.StatusOK
		hop.Responses["200"] = &huma.Response{
			Description: http.StatusText(http.StatusOK),
			Content:     map[string]*huma.MediaType{op.produces: {Schema: &huma.Schema{Type: "string", Format: "binary"}}},
		}
	}
	list := slices.Clone(op.problems)
	if public, _ := s.cfg.Policy.Decide(op.id, 0); public {
		list = append(list, client.CodeOverloaded, client.CodeInternal)
	} else {
		hop.Security = []map[string][]string{{"token": {}}}
		list = append(list, always...)
	}
	if len(op.consumes) > 0 {
		list = append(list, client.CodeTooLarge)
	}
	byStatus := map[int][]string{}
	for _, code := range list {
		status := codes[code].status
		if !slices.Contains(byStatus[status], code) {
			byStatus[status] = append(byStatus[status], code)
		}
	}
	schema := s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[client.Problem](), true, "Problem")
	for status, names := range byStatus {
		sort.Strings(names)
		hop.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status) + ": " + strings.Join(names, ", "),
			Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: schema}},
		}
	}
	return hop
}

// describeBody names the body's types. huma would take a body of its own
// naming for one that it has to read and decode.
func (s *server) describeBody(op operation) {
	if len(op.consumes) == 0 {
		return
	}
	oapi := s.huma.OpenAPI()
	hop := oapi.Paths[op.path].Post
	schema := &huma.Schema{Type: "string", Format: "binary"}
	if op.body != nil {
		t := reflect.TypeOf(op.body)
		schema = oapi.Components.Schemas.Schema(t, true, t.Name())
	}
	hop.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
	for _, ct := range op.consumes {
		hop.RequestBody.Content[ct] = &huma.MediaType{Schema: schema}
	}
}

// describe makes the documents, once everything is registered.
func (s *server) describe() error {
	oapi := s.huma.OpenAPI()
	schemas := oapi.Components.Schemas.Map()
	// huma adds its own errors to every operation; none is ever sent.
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	var types []any
	for code := range codes {
		types = append(types, client.ProblemPrefix+code)
	}
	sort.Slice(types, func(i, j int) bool { return types[i].(string) < types[j].(string) })
	schemas["Problem"].Properties["type"].Enum = types
	asJSON, err := json.MarshalIndent(oapi, "", " ")
	if err != nil {
		return fmt.Errorf("api: describe as JSON: %w", err)
	}
	asYAML, err := oapi.YAML()
	if err != nil {
		return fmt.Errorf("api: describe as YAML: %w", err)
	}
	s.openAPI = [2]document{
		{openAPIJSON, append(asJSON, '\n')},
		{openAPIYAML, asYAML},
	}
	return nil
}
