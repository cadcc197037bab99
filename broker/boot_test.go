package broker_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"

	"github.com/google/go-cmp/cmp"
)

// boot starts and stops a broker and returns what it recorded, oldest first, in words.
func boot(t *testing.T, k *agentkeystest.Broker, s broker.Start) (said []string) {
	t.Helper()
	before := len(records(t, k))
	must(t, k.Broker.Start(t.Context(), s))
	must(t, k.Broker.Stop(t.Context()))
	all := records(t, k)
	for _, r := range slices.Backward(all[:len(all)-before]) {
		if r.Outcome != audit.Confirmed || r.RequestID == "" {
			t.Errorf("recorded %+v", r)
		}
		said = append(said, strings.Join(strings.Fields(r.Action+" "+r.KeyID+" "+r.Detail), " "))
	}
	return said
}

// A start says what it has and what of it is not as before.
func TestStartsAreRecorded(t *testing.T) {
	k := agentkeystest.New(t)
	s := broker.Start{Version: "1.2.3", Configuration: "c0", Variables: map[string]string{"BROKER_A": "1", "BROKER_B": "2"}, Keys: []broker.LoadedKey{
		{ID: "ak-oidc-1", Purpose: "oidc", Signs: true}, {ID: "ak-session-1", Purpose: "session", Signs: true}, {ID: "ak-audit-1", Purpose: "audit", Signs: true}}}
	first := []string{
		`broker.started version="1.2.3" configuration=c0`, "config.loaded BROKER_A BROKER_B",
		"key.loaded ak-oidc-1 purpose=oidc use=sign", "key.loaded ak-session-1 purpose=session use=sign", "key.loaded ak-audit-1 purpose=audit use=sign",
		"broker.stopped",
	}
	for range 2 { // the second has nothing new to say
		if diff := cmp.Diff(first, boot(t, k, s)); diff != "" {
			t.Error(diff)
		}
	}

	s.Configuration, s.Variables = "c1", map[string]string{"BROKER_B": "3", "BROKER_C": "4"}
	s.Keys = append([]broker.LoadedKey{{ID: "ak-oidc-2", Purpose: "oidc", Signs: true}, {ID: "ak-oidc-1", Purpose: "oidc"}},
		broker.LoadedKey{ID: "ak-session-1", Purpose: "session", Signs: true}, broker.LoadedKey{ID: "ak-audit-2", Purpose: "audit", Signs: true})
	want := []string{
		`broker.started version="1.2.3" configuration=c1`, "config.loaded BROKER_B BROKER_C",
		"key.loaded ak-oidc-2 purpose=oidc use=sign", "key.loaded ak-oidc-1 purpose=oidc use=verify",
		"key.loaded ak-session-1 purpose=session use=sign", "key.loaded ak-audit-2 purpose=audit use=sign",
		"config.changed -BROKER_A ~BROKER_B +BROKER_C",
		"key.retired ak-audit-1 purpose=audit", "key.added ak-audit-2 purpose=audit", "key.added ak-oidc-2 purpose=oidc",
		"broker.stopped",
	}
	if diff := cmp.Diff(want, boot(t, k, s)); diff != "" {
		t.Error(diff)
	}
	s.Configuration = "c2" // what nobody set has another default
	if said := boot(t, k, s); !slices.Contains(said, "config.changed defaults") {
		t.Errorf("another default: %q", said)
	}
}

// The first start after a restore says so, once, and compares itself with none before.
func TestStartAfterARestoreIsRecorded(t *testing.T) {
	k := agentkeystest.New(t)
	const note = "size=12 root=ab records=14 pruned=3"
	must(t, k.Store.Update(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO boot (kind, name, value) VALUES ($1, $2, $3)", audit.NoteKind, audit.NoteName, note)
		return err
	}))
	s := broker.Start{Version: "1", Configuration: "c0", Keys: []broker.LoadedKey{{ID: "ak-audit-1", Purpose: "audit", Signs: true}}}
	first := []string{`broker.started version="1" configuration=c0`, "config.loaded", "key.loaded ak-audit-1 purpose=audit use=sign"}
	if diff := cmp.Diff(append(slices.Clone(first), "audit.restored "+note, "broker.stopped"), boot(t, k, s)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(append(first, "broker.stopped"), boot(t, k, s)); diff != "" {
		t.Errorf("the second start: %s", diff)
	}
}

// What was counted when a broker stops is recorded before it says that it stops.
func TestStopRecordsWhatWasCounted(t *testing.T) {
	k := agentkeystest.New(t)
	for range 63 {
		send(t, k, "GET", api.PathGrantList, "")
	}
	must(t, k.Broker.Stop(t.Context()))
	if diff := cmp.Diff([]string{"refusals.summarised refused session_required", "broker.stopped confirmed"}, recorded(t, k, 2)); diff != "" {
		t.Error(diff)
	}
	if r := records(t, k)[1]; !strings.Contains(r.Detail, " count=3 ") {
		t.Errorf("recorded %q, want a count of 3", r.Detail)
	}
}

// However many variables are set, each is named, in records that the log takes.
func TestStartWithEveryVariable(t *testing.T) {
	k := agentkeystest.New(t)
	s := broker.Start{Version: "1", Configuration: "c", Variables: map[string]string{}}
	for i := range 200 {
		s.Variables[fmt.Sprintf("BROKER_%s_%03d", strings.Repeat("X", 20), i)] = "1"
	}
	var named []string
	for _, said := range boot(t, k, s) {
		if rest, ok := strings.CutPrefix(said, "config.loaded "); ok {
			named = append(named, strings.Fields(rest)...)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(s.Variables)), named); diff != "" {
		t.Error(diff)
	}
}

// An anchor that took no record yet is known by the start, so nothing is pruned before
// it has it.
func TestStartNamesItsAnchors(t *testing.T) {
	k := agentkeystest.New(t, func(c *broker.Config) {
		c.AnchorsFollow = true
		c.Anchors = append(c.Anchors, broker.Anchor{Name: "west", Put: func(context.Context, ...audit.Entry) error { return errors.New("down") }})
	})
	prunable := func() (p audit.Prunable) {
		must(t, k.Store.View(t.Context(), func(tx *sql.Tx) (err error) {
			p, err = audit.FindPrunable(t.Context(), tx, k.Clock.Now().Add(time.Hour))
			return err
		}))
		return p
	}
	for range 2 {
		must(t, k.Broker.Start(t.Context(), broker.Start{Version: "1"}))
		k.Head(t)
		if p := prunable(); p.Any() || !strings.HasSuffix(p.Kept, "west") {
			t.Errorf("prunable: %+v, want nothing, for west", p)
		}
	}
}

// A start that cannot be recorded is none.
func TestStartWaitsForItsRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	k := agentkeystest.NewAt(t, path)
	s := broker.Start{Version: "1", Configuration: "c0"}
	boot(t, k, s)
	direct := execDirectly(t, path)
	direct("CREATE TRIGGER full BEFORE INSERT ON audit_records WHEN NEW.action = 'config.changed' BEGIN SELECT RAISE(ABORT, 'full'); END")
	before := len(records(t, k))
	if err := k.Broker.Start(t.Context(), broker.Start{Version: "1", Configuration: "c1"}); err == nil {
		t.Error("Start returned nil without its records")
	}
	if n := len(records(t, k)); n != before {
		t.Errorf("%d records of a start that failed", n-before)
	}
	direct("DROP TRIGGER full")
	if said := boot(t, k, broker.Start{Version: "1", Configuration: "c1"}); !slices.Contains(said, "config.changed defaults") {
		t.Errorf("the change was forgotten with the start that failed: %q", said)
	}
	direct("CREATE TRIGGER full BEFORE INSERT ON audit_records BEGIN SELECT RAISE(ABORT, 'full'); END")
	if err := k.Broker.Stop(t.Context()); err == nil {
		t.Error("Stop returned nil without its record")
	}
}
