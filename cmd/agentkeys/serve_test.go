package main

import (
	"context"
	"database/sql"
	"encoding/base64"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
	"agentkeys/store"
	"agentkeys/token"
)

// A clock that stands before the newest record stops the start, since used
// challenges and ended sessions would look young again.
func TestServeRefusesAClockBehindItsRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), databaseFile)
	if err := store.Create(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if err := checkClock(t.Context(), db, now); err != nil {
		t.Errorf("with no record: %v", err)
	}
	err = db.Update(t.Context(), func(tx *sql.Tx) error {
		return audit.Append(context.Background(), tx, &audit.Record{Time: now, Action: "test", Outcome: audit.Confirmed, RequestID: "r"})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		behind  time.Duration
		refused bool
	}{
		{-time.Hour, false}, {0, false}, {broker.ClockLeeway, false}, {broker.ClockLeeway + time.Second, true}, {24 * time.Hour, true},
	} {
		err := checkClock(t.Context(), db, now.Add(-tc.behind))
		if (err != nil) != tc.refused {
			t.Errorf("%v behind: %v, want a refusal: %v", tc.behind, err, tc.refused)
		}
		if err != nil && !strings.Contains(err.Error(), "but the newest record is of 2026-03-01T12:00:00Z") {
			t.Errorf("the refusal does not name both times: %v", err)
		}
	}
}

// The configured tag key is the one of the tokens and the one that discovery
// names.
func TestAssembleTakesTheTagKey(t *testing.T) {
	dir := t.TempDir()
	if err := createLocal(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	c := localConfig(dir, "http://127.0.0.1:8091")
	c.OIDCTagKey = "acme:tenant"
	keys, err := loadKeys(c)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), filepath.Join(dir, databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	parts, _, err := assemble(c, keys, db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	files, err := openAuditFiles(c)
	if err != nil {
		t.Fatal(err)
	}
	defer files.close()
	files.into(&parts)
	b, err := broker.New(parts)
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	b.ServeHTTP(answer, httptest.NewRequest("GET", c.Issuer+api.PathDiscovery, nil))
	jwt, _, err := parts.Mint("0x1111111111111111111111111111111111111aaa", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(jwt.Reveal(), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"the discovery document": answer.Body.String(), "the token": string(payload)} {
		if !strings.Contains(text, `"acme:tenant"`) || strings.Contains(text, token.TagKey) {
			t.Errorf("%s: want acme:tenant and not %s, got %s", name, token.TagKey, text)
		}
	}
}
