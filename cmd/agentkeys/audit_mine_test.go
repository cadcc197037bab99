package main

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"agentkeys/api"
	"agentkeys/audit"
)

// An entry is shown as its line has it, or it is refused: the line is what a proof
// vouches for.
func TestEntriesSayWhatTheirLinesSay(t *testing.T) {
	r := audit.Entry{Salt: make([]byte, audit.SaltSize), Record: audit.Record{Seq: 7, ID: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Time: time.Unix(1772366400, 5e6).UTC(), Action: "grant.create",
		Outcome: audit.Confirmed, RequestID: "r", Wallet: "0xa", Tenant: "0xa", Agent: "0xb", ScopePath: "reports", GrantID: "grn-1", Service: "s3", OmniAccount: "aa", Source: "127.0.0.1"}}
	good := api.AuditEntry{ID: r.ID, Place: 7, Time: 1772366400, Shown: api.ShownFull, Action: r.Action, Outcome: r.Outcome, Wallet: r.Wallet, Tenant: r.Tenant, Agent: r.Agent,
		ScopePath: r.ScopePath, GrantID: r.GrantID, Service: r.Service, OmniAccount: r.OmniAccount, Source: r.Source, Line: string(r.Line())}
	if got, err := checkLine(good); err != nil || got != r.LeafHash(r.Digest()) {
		t.Fatalf("got %s, %v", got, err)
	}
	for name, change := range map[string]func(*api.AuditEntry){
		"id": func(e *api.AuditEntry) { e.ID = "01ARZ3NDEKTSV4RRFFQ69G5FAW" }, "place": func(e *api.AuditEntry) { e.Place++ }, "time": func(e *api.AuditEntry) { e.Time++ },
		"action": func(e *api.AuditEntry) { e.Action = "grant.revoke" }, "outcome": func(e *api.AuditEntry) { e.Outcome = "refused" }, "reason": func(e *api.AuditEntry) { e.Reason = "x" },
		"detail": func(e *api.AuditEntry) { e.Detail = "x" }, "grant": func(e *api.AuditEntry) { e.GrantID = "grn-2" }, "credential": func(e *api.AuditEntry) { e.CredentialID = "x" },
		"settles": func(e *api.AuditEntry) { e.Settles = e.ID }, "wallet": func(e *api.AuditEntry) { e.Wallet = "0xc" }, "agent": func(e *api.AuditEntry) { e.Agent = "x" },
		"path": func(e *api.AuditEntry) { e.ScopePath = "" }, "tenant": func(e *api.AuditEntry) { e.Tenant = "" }, "source": func(e *api.AuditEntry) { e.Source = "" },
		"no line": func(e *api.AuditEntry) { e.Line = "" }, "pruned line": func(e *api.AuditEntry) { e.Line = string((&audit.RawLine{Place: 7}).Append(nil)) },
		"changed line":   func(e *api.AuditEntry) { e.Line = strings.Replace(e.Line, "grn-1", "grn-2", 1); e.GrantID = "grn-2" },
		"changed person": func(e *api.AuditEntry) { e.Line = strings.ReplaceAll(e.Line, "0xb", "0xc"); e.Agent = "0xc" },
	} {
		e := good
		if change(&e); e == good {
			t.Fatalf("%s: nothing is changed", name)
		}
		if _, err := checkLine(e); err == nil {
			t.Errorf("%s: %+v was taken", name, e)
		}
	}
}

// What there is of a mint at its longest fits a terminal, each column begins where its
// name does, and what is cut is what tells least.
func TestEntriesFitATerminal(t *testing.T) {
	owner, daemon := "0x"+strings.Repeat("a1", 20), "0x"+strings.Repeat("b2", 20)
	long := api.AuditEntry{Place: 12345678, Time: 1772366400, Action: audit.ActionMintAWS, Status: audit.StatusQuarantined, Wallet: owner, GrantID: "grn-ABCDEFGHIJKLMNOP",
		Reason: "scope_exceeds_grant", ScopePath: strings.Repeat("päth/", 40), Agent: daemon, CredentialID: "ASIA0000000000000004"}
	plain := api.AuditEntry{Place: 7, Time: 1772366400, Action: audit.ActionGrantCreate, Status: audit.StatusConfirmed, Wallet: owner, GrantID: "grn-ABCDEFGHIJKLMNOP", ScopePath: "reports", Agent: daemon}
	hostile := api.AuditEntry{Action: strings.Repeat("x", 300), Status: "\x1b[2J" + strings.Repeat("y", 300), Wallet: strings.Repeat("z", 300), GrantID: "\n\t" + strings.Repeat("é", 300), Agent: "0x\x1b" + strings.Repeat("é", 100)}
	for name, tt := range map[string]struct {
		entries []api.AuditEntry
		want    []string // in each line of an entry
	}{
		"none":    {nil, nil},
		"plain":   {[]api.AuditEntry{plain}, []string{"7", "2026-03-01 12:00:00", audit.ActionGrantCreate, "confirmed", "0xa1a1…a1a1", "grn-AB…MNOP", "reports 0xb2b2…b2b2"}},
		"long":    {[]api.AuditEntry{long}, []string{"12345678", "2026-03-01 12:00:00", audit.ActionMintAWS, "quarantined", "0xa1a1…a1a1", "grn-AB…MNOP", "scope_exceeds…"}},
		"many":    {[]api.AuditEntry{long, plain, hostile}, nil},
		"hostile": {[]api.AuditEntry{hostile}, nil},
	} {
		var text strings.Builder
		if err := writeEntries(&text, tt.entries); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
		if len(lines) != len(tt.entries)+1 || !slices.Equal(strings.Fields(lines[0]), strings.Fields("PLACE TIME (UTC) ACTION STATUS WHO GRANT ABOUT")) {
			t.Errorf("%s: printed\n%s", name, text.String())
		}
		for _, line := range lines {
			if n := utf8.RuneCountInString(line); n > 100 || strings.TrimRight(line, " ") != line || printable(line) != line {
				t.Errorf("%s: a line has %d columns, want 100 at most, without spaces at its end and nothing that a terminal obeys: %q", name, n, line)
			}
		}
		for i, want := range tt.want {
			at := strings.Index(lines[0], mineHeader[i])
			if i == 0 { // numbers end where the name does
				at = max(5, len(want)) - len(want)
			}
			if !strings.HasPrefix(string([]rune(lines[1])[at:])+" ", want+" ") {
				t.Errorf("%s: want %q below %s, got\n%s", name, want, mineHeader[i], text.String())
			}
		}
	}
	var text strings.Builder
	if err := writeEntries(&text, []api.AuditEntry{long}); err != nil || !strings.HasSuffix(text.String(), "…\n") {
		t.Errorf("what is cut does not say so: %v\n%s", err, text.String())
	}
}
