package localaws

import (
	"encoding/xml"
	"fmt"
	"net/http"

	"agentkeys/policy"
)

// apiError is a refusal as AWS words it. STS and IAM write it as the query
// protocol does, S3 as an S3 error document; Type is Sender or Receiver and is
// only shown by the query protocol.
type apiError struct {
	Status  int
	Code    string
	Message string
	Type    string
}

// Error lets a body reader hand an apiError through io.Reader.
func (e *apiError) Error() string { return e.Code + ": " + e.Message }

// refuse makes the error of a caller's mistake.
func refuse(status int, code, format string, args ...any) *apiError {
	return &apiError{Status: status, Code: code, Message: fmt.Sprintf(format, args...), Type: "Sender"}
}

// internalFailure is what a caller sees of a fault of our own; the cause goes
// to the log, never into the answer.
func internalFailure() *apiError {
	return &apiError{Status: http.StatusInternalServerError, Code: "InternalFailure",
		Message: "The request processing has failed because of an unknown error, exception or failure.", Type: "Receiver"}
}

// accessDenied words a policy's refusal and names the layer that refused, as
// IAM does for callers of its own account.
func accessDenied(who policy.Principal, action, resource string, d policy.Decision) *apiError {
	return refuse(http.StatusForbidden, "AccessDenied", "User: %s is not authorized to perform: %s on resource: %s%s",
		who.ARN, action, resource, denialReason(action, d))
}

// denialReason is the tail of an AccessDenied message, from " because" or
// " with" on; "" where no layer is to be named.
func denialReason(action string, d policy.Decision) string {
	article, name := "a", ""
	switch d.Layer {
	case policy.IdentityLayer:
		article, name = "an", "identity-based policy"
	case policy.ResourceLayer:
		name = "resource-based policy"
	case policy.BoundaryLayer:
		name = "permissions boundary"
	case policy.SessionLayer:
		name = "session policy"
	case policy.ServiceControlLayer:
		name = "service control policy"
	case policy.ResourceControlLayer:
		name = "resource control policy"
	default:
		return ""
	}
	if d.Explicit {
		return fmt.Sprintf(" with an explicit deny in %s %s", article, name)
	}
	return fmt.Sprintf(" because no %s allows the %s action", name, action)
}

// xmlError is the error document of the query protocol.
type xmlError struct {
	XMLName   xml.Name `xml:"ErrorResponse"`
	Namespace string   `xml:"xmlns,attr"`
	Type      string   `xml:"Error>Type"`
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}
