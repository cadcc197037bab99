package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/broker"
	"agentkeys/client"
)

// Who means their own prefix and has no grant for it is refused before anything is
// asked for, where the broker could only give another owner's: that would spend a use
// of it, and make credentials of a tenant that nobody meant.
func TestOwnPrefixSpendsNoStrangersGrant(t *testing.T) {
	for _, tt := range []struct {
		name    string
		open    bool // the migration window
		granted string
		change  func(k *agentkeystest.Broker, r *api.GrantCreateRequest)
		given   bool
		says    string
	}{
		{"required, another's fits", false, "reports", nil, false, "has no grant of its own for \"reports/2026\", and a call that names none could be given grn-"},
		{"window, another's fits", true, "/", nil, false, "has no grant of its own for \"reports/2026\", and a call that names none could be given grn-"},
		{"required, another's is beside", false, "other", nil, false, "scope_exceeds_grant: "},
		{"required, another's has ended", false, "reports", func(k *agentkeystest.Broker, r *api.GrantCreateRequest) {
			r.ExpiresAt = k.Clock.Now().Add(2 * time.Second).Unix()
		}, false, "grant_expired: "},
		{"required, none", false, "", nil, false, "grant_required: "},
		{"window, none", true, "", nil, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, aws := agentkeystest.NewWithAWS(t, func(c *broker.Config) { c.GrantOptional = tt.open })
			alice, bob := k.Party(t), k.Party(t)
			var g api.Grant
			if tt.granted != "" {
				g = k.Grant(t, alice, bob, tt.granted, func(r *api.GrantCreateRequest) {
					if tt.change != nil {
						tt.change(k, r)
					}
				})
			}
			if tt.change != nil {
				k.Clock.Move(3 * time.Second)
			}
			key := filepath.Join(t.TempDir(), "bob.key")
			if err := client.WriteWalletFile(key, bob.Wallet); err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), []string{"creds", "--broker", k.Issuer, "--wallet", key, "--path", "reports/2026", "--owner", bob.Address()}, nil, &stdout, &stderr)
			if (code == exitOK) != tt.given || (stdout.Len() > 0) != tt.given || !strings.Contains(stderr.String(), tt.says) {
				t.Errorf("status %d, printed %d bytes, said %q; want given: %v, said %q", code, stdout.Len(), &stderr, tt.given, tt.says)
			}
			if n := len(aws.Given()); (n == 1) != tt.given || n > 1 {
				t.Errorf("STS gave %d credentials, want given: %v", n, tt.given)
			}
			if g.GrantID == "" {
				return
			}
			now, err := k.Client.GrantShow(t.Context(), alice.Session.SessionJWT, g.GrantID)
			if err != nil || now.UsedCount != 0 {
				t.Errorf("alice's grant was used %d times (%v), want none", now.UsedCount, err)
			}
		})
	}
}
