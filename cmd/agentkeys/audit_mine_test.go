package main

import (
	"strings"
	"testing"
	"time"

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
