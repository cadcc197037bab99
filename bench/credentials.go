package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"agentkeys/api"
	"agentkeys/client"
)

// standIn answers in the place of AWS STS, with credentials that open nothing, so
// that what is measured is the broker. It ends with the listener.
func standIn() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	answer := func(session string) string {
		return fmt.Sprintf(`<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>`+
			`<AssumedRoleUser><Arn>arn:aws:sts::%[1]s:assumed-role/agentkeys-data-role/%[5]s</Arn><AssumedRoleId>AROAEXAMPLEEXAMPLE00:%[5]s</AssumedRoleId></AssumedRoleUser>`+
			`<Credentials><AccessKeyId>ASIAEXAMPLEEXAMPLE00</AccessKeyId><SecretAccessKey>%[2]s</SecretAccessKey><SessionToken>%[3]s</SessionToken>`+
			`<Expiration>%[4]s</Expiration></Credentials></AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId>`+
			`</ResponseMetadata></AssumeRoleWithWebIdentityResponse>`,
			account, strings.Repeat("s", 40), strings.Repeat("t", 900), time.Now().Add(time.Hour).UTC().Format(time.RFC3339), session)
	}
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // until the listener is closed
			w.Header().Set("Content-Type", "text/xml")
			_, _ = io.WriteString(w, answer(r.FormValue("RoleSessionName")))
		}))
	}()
	return l, nil
}

// credentialCalls signs calls ahead of the time that is measured, and hands them
// out.
type credentialCalls struct {
	p     *process
	grant string

	mu    sync.Mutex // guards ready
	ready [][]byte
}

// prepare has the broker's wallet grant itself a path, and signs n calls.
func (p *process) prepare(ctx context.Context, n int) (*credentialCalls, error) {
	c, err := client.New(p.issuer, nil)
	if err != nil {
		return nil, err
	}
	g, err := c.GrantCreate(ctx, p.session, api.GrantCreateRequest{DaemonAddress: p.wallet.Address(), Service: "s3", ScopePath: "bench",
		ExpiresAt: time.Now().Add(time.Hour).Unix(), MaxUses: 1_000_000_000})
	if err != nil {
		return nil, err
	}
	calls := &credentialCalls{p: p, grant: g.GrantID}
	for range n {
		signed, err := client.SignCall(p.wallet, http.MethodPost, p.issuer+api.PathMintAWS, api.MintAWSRequest{
			RequestID: rand.Text(), IssuedAt: api.Timestamp{Time: time.Now()},
			Intent: api.Intent{AgentID: "bench", Service: "s3", ScopePath: "bench", GrantID: g.GrantID}})
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(signed)
		if err != nil {
			return nil, err
		}
		calls.ready = append(calls.ready, body)
	}
	return calls, nil
}

func (c *credentialCalls) next() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ready) == 0 {
		return nil, errSpent
	}
	body := c.ready[len(c.ready)-1]
	c.ready = c.ready[:len(c.ready)-1]
	return body, nil
}

// mint asks for credentials with the next call and a fresh Idempotency-Key.
func (c *credentialCalls) mint(ctx context.Context, transport *http.Transport) error {
	body, err := c.next()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.p.issuer+api.PathMintAWS, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", rand.Text())
	return c.p.send(req, transport)
}
