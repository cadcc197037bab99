package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"agentkeys/api"
	"agentkeys/auth"
	"agentkeys/grant"
	"agentkeys/token"
)

// asAPI maps an error to what a client may see. Whatever is not made for
// clients is an internal error, and its text stays in the log.
func asAPI(err error) *api.Error {
	var known *api.Error
	var refused *auth.Error
	var badToken *token.Error
	var noGrant *grant.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &refused):
		return api.Errorf(api.Code(refused.Code), "%s", refused.Detail)
	case errors.As(err, &badToken):
		return api.Errorf(api.Code(badToken.Code), "%s", badToken.Detail)
	case errors.As(err, &noGrant):
		return api.Errorf(api.Code(noGrant.Code), "%s", noGrant.Detail)
	}
	return api.Errorf(api.CodeInternal, "see the log")
}

// writeError answers with a problem document (RFC 9457).
func (b *Broker) writeError(c *call, err error) {
	e := asAPI(err)
	kind := api.KindOf(e.Code)
	c.note("code", string(e.Code))
	if e.Status >= http.StatusInternalServerError {
		c.note("error", err.Error())
	}
	h := c.w.Header()
	if e.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", challenge(err, kind))
	}
	switch {
	case e.RetryAfter > 0:
		h.Set("Retry-After", retryAfter(e.RetryAfter))
	case e.Status == http.StatusServiceUnavailable, e.Status == http.StatusConflict:
		h.Set("Retry-After", "1")
	}
	body, _ := json.Marshal(api.Problem{ // of strings and an int alone: it cannot fail
		Type:        b.Issuer + api.PathRunbook + "#" + string(e.Code),
		Title:       kind.Title,
		Status:      e.Status,
		Detail:      e.Detail,
		Instance:    c.r.URL.Path,
		Code:        e.Code,
		RequestID:   c.requestID,
		Remediation: kind.Remediation,
	})
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	c.w.WriteHeader(e.Status)
	_, _ = c.w.Write(append(body, '\n'))
}

// challenge is the WWW-Authenticate value of RFC 6750, section 3. Of its words
// invalid_token makes a client throw its token away, so it is for a session that was
// refused alone. Where none was sent, or a good one with a call whose own signature
// is wrong, stale or used, the request is what is invalid.
func challenge(err error, kind api.Kind) string {
	reason := "invalid_request"
	var session *token.Error
	if errors.As(err, &session) {
		reason = "invalid_token"
	}
	return fmt.Sprintf("Bearer realm=\"agentkeys\", error=%q, error_description=%q", reason, kind.Title)
}

// asRefusal tells a refusal, which is a result of a transaction, from an error,
// which undoes it.
func asRefusal(err error) (refusal, failure error) {
	var noGrant *grant.Error
	if errors.As(err, &noGrant) {
		return noGrant, nil
	}
	return nil, err
}

// firstOf is the first of two errors that there is.
func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// readFailed is what the client gets of an error of a read: the refusal that it is,
// or that the database failed.
func (b *Broker) readFailed(err error) error {
	if refusal, _ := asRefusal(err); refusal != nil {
		return refusal
	}
	return fmt.Errorf("%w: %w", api.Errorf(api.CodeStoreUnavailable, "the database did not do its part"), err)
}
