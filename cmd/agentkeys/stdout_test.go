package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/client"
	"agentkeys/grant"
)

// Whatever prints something that nobody got to read ends as a failure that says so: a
// script goes on with an empty id or token else. What was done all the same is named.
func TestWhatCannotBePrintedIsAFailure(t *testing.T) {
	k := agentkeystest.New(t)
	w, session := k.SignIn(t)
	dir := t.TempDir()
	key := filepath.Join(dir, "alice.key")
	if err := client.WriteWalletFile(key, w); err != nil {
		t.Fatal(err)
	}
	g, err := k.Client.GrantCreate(t.Context(), session.SessionJWT, api.GrantCreateRequest{
		DaemonAddress: w.Address(), Service: grant.S3, ScopePath: "reports", ExpiresAt: k.Clock.Now().Add(time.Hour).Unix(), MaxUses: 1})
	if err != nil {
		t.Fatal(err)
	}
	end := k.Clock.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	at := " --broker " + k.Issuer + " --wallet " + key
	create := "grant create" + at + " --daemon " + w.Address() + " --path new --actions get --uses 1 --expires " + end
	for args, says := range map[string]string{
		"mint" + at:                             "printing the token: ",
		create:                                  "is made, and printing it failed: ",
		create + " --json":                      "is made, and printing it failed: ",
		"grant revoke" + at + " " + g.GrantID:   "printing: ",
		"keygen --purpose wallet --show " + key: "printing: ",
		"keygen --purpose oidc --out " + filepath.Join(dir, "OUT") + ".jwk": "printing: ",
	} {
		for _, tc := range []struct {
			err  syscall.Errno
			code int
		}{{syscall.ENOSPC, exitBroken}, {syscall.EPIPE, exitReaderGone}} {
			var stderr bytes.Buffer
			code := run(t.Context(), strings.Fields(strings.ReplaceAll(args, "OUT", tc.err.Error()[:2])), nil, brokenWriter{tc.err}, &stderr)
			if code != tc.code {
				t.Errorf("%.30s: %v: status %d, want %d; said %q", args, tc.err, code, tc.code, &stderr)
			}
			if said := stderr.String(); strings.Contains(said, "granted:") || (code == exitBroken) != strings.Contains(said, says) {
				t.Errorf("%.30s: %v: said %q, want %q where it failed", args, tc.err, said, says)
			}
		}
	}
	page, err := k.Client.GrantList(t.Context(), session.SessionJWT, "", 0)
	if err != nil || len(page.Grants) != 5 {
		t.Errorf("%d grants (%v), want the one before and the four that were made", len(page.Grants), err)
	}
}
