package main

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentkeys/audit"
	"agentkeys/broker"
	"agentkeys/store"
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
