package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"agentkeys/api"
)

// GrantCreate gives a daemon leave to mint credentials for a path of the prefix of
// the session's account.
func (c *Client) GrantCreate(ctx context.Context, sessionJWT string, r api.GrantCreateRequest) (api.Grant, error) {
	var answer api.Grant
	err := c.post(ctx, api.PathGrantCreate, sessionJWT, r, &answer)
	return answer, err
}

// GrantList returns a page of the caller's grants, the newest first. Cursor is ""
// for the first page, and the last answer's for the next. A limit of 0 leaves the
// length of the page to the broker.
func (c *Client) GrantList(ctx context.Context, sessionJWT, cursor string, limit int) (api.GrantListResponse, error) {
	query := make(url.Values)
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	if limit != 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	path := api.PathGrantList
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var answer api.GrantListResponse
	err := c.send(ctx, http.MethodGet, path, sessionJWT, nil, nil, &answer)
	return answer, err
}

// GrantRevoke revokes a grant of the caller's. Revoking one again gives the same
// answer.
func (c *Client) GrantRevoke(ctx context.Context, sessionJWT, grantID string) (api.GrantRevokeResponse, error) {
	var answer api.GrantRevokeResponse
	err := c.post(ctx, api.PathGrantRevoke, sessionJWT, api.GrantRevokeRequest{GrantID: grantID}, &answer)
	return answer, err
}

// GrantShow returns one grant that the caller gave or was given. Another's is
// api.CodeGrantUnknown, as if it did not exist.
func (c *Client) GrantShow(ctx context.Context, sessionJWT, grantID string) (api.Grant, error) {
	var answer api.GrantListResponse
	path := api.PathGrantList + "?" + url.Values{"grant_id": {grantID}}.Encode()
	if err := c.send(ctx, http.MethodGet, path, sessionJWT, nil, nil, &answer); err != nil {
		return api.Grant{}, err
	}
	for _, g := range answer.Grants {
		if g.GrantID == grantID {
			return g, nil
		}
	}
	refusal := api.Errorf(api.CodeGrantUnknown, "no grant %q that was given by this caller or to it", grantID)
	refusal.Remediation = api.KindOf(refusal.Code).Remediation
	return api.Grant{}, refusal
}
