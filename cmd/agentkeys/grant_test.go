package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/client"
	"agentkeys/grant"
)

func TestParseEnd(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"24h": "2026-03-02T12:00:00Z", "90s": "2026-03-01T12:01:30Z", "1h30m": "2026-03-01T13:30:00Z", "7d": "2026-03-08T12:00:00Z",
		"2026-12-31T18:00:00Z": "2026-12-31T18:00:00Z", "2026-12-31T18:00:00+02:00": "2026-12-31T16:00:00Z",
		"": "", "24": "", "h": "", "d": "", "0": "", "0s": "", "0d": "", "-1h": "", "-1d": "", "1.5d": "", "1d12h": "", "99999999d": "", "1e3h": "",
		"tomorrow": "", "2026-12-31": "", "2026-02-30T00:00:00Z": "", "2026-12-31T18:00:00,5Z": "", "2026-12-31T8:00:00Z": "", "2026-12-31T18:00:00+24:00": "", "900ms": "", "1.9s": "2026-03-01T12:00:01Z", "2026-03-01T12:00:00Z": "", " 24h": "", "24h ": "",
	} {
		at, err := parseEnd(text, now)
		got := ""
		if err == nil {
			got = at.UTC().Format(time.RFC3339)
		}
		if got != want {
			t.Errorf("%q: got %q (%v), want %q", text, got, err, want)
		}
	}
}

// What is read lies after now, and a time reads as itself.
func FuzzParseEnd(f *testing.F) {
	for _, text := range []string{"24h", "7d", "99999d", "-1h", "2026-12-31T18:00:00Z", "2562047h47m16.854775807s", "9999-12-31T23:59:59Z"} {
		f.Add(text)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		at, err := parseEnd(text, now)
		if err != nil {
			return
		}
		if !at.After(now) {
			t.Errorf("%q: got %v, which is not after %v", text, at, now)
		}
		if at.Year() > 9999 {
			return
		}
		if again, err := parseEnd(at.Format(time.RFC3339Nano), now); err != nil || !again.Equal(at) {
			t.Errorf("%q: %v reads as %v (%v)", text, at, again, err)
		}
	})
}

func TestDistance(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "in 0s", 59 * time.Second: "in 59s", 119 * time.Second: "in 119s", 2 * time.Minute: "in 2m", 119 * time.Minute: "in 119m",
		24*time.Hour - time.Second: "in 24h", 47*time.Hour + 59*time.Minute: "in 48h", 48 * time.Hour: "in 2d", 90 * 24 * time.Hour: "in 90d",
		-time.Second: "1s ago", -3 * time.Hour: "3h ago",
	} {
		if got := distance(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

// A list of more grants than a page of the broker holds is whole, in its order.
func TestGrantListReadsEveryPage(t *testing.T) {
	k := agentkeystest.New(t)
	w, session := k.SignIn(t)
	const n = grant.DefaultLimit + 3
	var made []string
	for range n {
		g, err := k.Client.GrantCreate(t.Context(), session.SessionJWT, api.GrantCreateRequest{
			DaemonAddress: "0x1111111111111111111111111111111111111aaa", Service: grant.S3, ScopePath: "reports",
			ExpiresAt: k.Clock.Now().Add(time.Hour).Unix(), MaxUses: 1})
		if err != nil {
			t.Fatal(err)
		}
		made = append([]string{g.GrantID}, made...)
	}
	key := filepath.Join(t.TempDir(), "alice.key")
	if err := client.WriteWalletFile(key, w); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"grant", "list", "--broker", k.Issuer, "--wallet", key, "--json"}, nil, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit status %d: %s", code, stderr.String())
	}
	var shown []api.Grant
	if err := json.Unmarshal(stdout.Bytes(), &shown); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range shown {
		got = append(got, g.GrantID)
	}
	if strings.Join(got, " ") != strings.Join(made, " ") {
		t.Errorf("got %d grants, want the %d that were made, the newest first:\n%v\n%v", len(got), n, got, made)
	}
}

// A broker that is not honest, or somebody in its place, writes nothing to a terminal
// but text: neither in grants nor in a refusal.
func TestTerminalObeysNoBroker(t *testing.T) {
	const evil = "x\x1b[2J\x1b]0;title\a\u009b1m\r\u202egnp"
	g := api.Grant{GrantID: evil, Role: evil, Status: evil, Owner: evil, Wallet: evil, DaemonAddress: evil, Service: evil, ScopePath: evil,
		Actions: []string{evil}, SessionName: evil, LastRecordID: evil, LastUsedAt: new(int64)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(403)
		_ = json.NewEncoder(w).Encode(api.Problem{Code: evil, Detail: evil, Remediation: evil})
	}))
	defer server.Close()
	var list, one, refused bytes.Buffer
	if err := errors.Join(writeGrants(&list, []api.Grant{g}, time.Now()), writeGrant(&one, g)); err != nil {
		t.Fatal(err)
	}
	wallet := filepath.Join(t.TempDir(), "wallet.key")
	if status := run(t.Context(), []string{"keygen", "--purpose", "wallet", "--out", wallet}, nil, io.Discard, &refused); status != 0 {
		t.Fatalf("keygen: %d %s", status, &refused)
	}
	refused.Reset()
	if status := run(t.Context(), []string{"grant", "list", "--broker", server.URL, "--wallet", wallet}, nil, io.Discard, &refused); status != exitBroken {
		t.Fatalf("grant list: status %d", status)
	}
	for name, text := range map[string]string{"list": list.String(), "one": one.String(), "refusal": refused.String()} {
		if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) || !strings.Contains(text, "gnp") {
			t.Errorf("%s: %q", name, text)
		}
	}
}
