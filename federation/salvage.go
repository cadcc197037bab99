package federation

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"agentkeys/policy"
)

// salvage reads a document of which a statement is beyond our reading, where that
// statement is an Allow of other services' actions alone: whatever it says, it
// lets nobody at the bucket, at a role or at IAM. In its place stands a statement
// that allows nothing we look at, so that the others keep their numbers.
func salvage(text string, refusal error) (*policy.Document, error) {
	var bad *policy.ParseError
	for range 64 { // statements
		if !errors.As(refusal, &bad) || bad.Statement < 0 {
			return nil, refusal
		}
		next, ok := withoutStatement(text, bad.Statement)
		if !ok {
			return nil, refusal
		}
		d, err := policy.Parse([]byte(next))
		if err == nil {
			return d, nil
		}
		text, refusal = next, err
	}
	return nil, refusal
}

// inert is a statement that is about nothing we look at.
var inert = json.RawMessage(`{"Effect":"Allow","Action":"none:None","Resource":"*"}`)

func withoutStatement(text string, index int) (string, bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &members) != nil {
		return "", false
	}
	var list []json.RawMessage
	if json.Unmarshal(members["Statement"], &list) != nil {
		list = []json.RawMessage{members["Statement"]}
	}
	if index >= len(list) || !ofOtherServices(list[index]) {
		return "", false
	}
	list[index] = inert
	members["Statement"], _ = json.Marshal(list) // JSON that was read encodes again
	out, err := json.Marshal(members)
	return string(out), err == nil
}

// watched are the services whose actions let somebody in.
var watched = []string{"s3", "sts", "iam"}

// ofOtherServices reports whether a statement is an Allow that names actions of other
// services alone.
func ofOtherServices(raw json.RawMessage) bool {
	var s struct {
		Effect       string
		Action       json.RawMessage
		NotAction    json.RawMessage
		Principal    json.RawMessage
		NotPrincipal json.RawMessage
	}
	if json.Unmarshal(raw, &s) != nil || s.Effect != string(policy.Allow) || s.NotAction != nil || s.Principal != nil || s.NotPrincipal != nil {
		return false
	}
	var actions []string
	if json.Unmarshal(s.Action, &actions) != nil {
		var one string
		if json.Unmarshal(s.Action, &one) != nil {
			return false
		}
		actions = []string{one}
	}
	return len(actions) > 0 && !slices.ContainsFunc(actions, func(a string) bool {
		service, _, ok := strings.Cut(a, ":")
		return !ok || strings.ContainsAny(service, "*?") || slices.Contains(watched, strings.ToLower(strings.TrimSpace(service)))
	})
}
