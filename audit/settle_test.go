package audit_test

import (
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"agentkeys/audit"

	"github.com/google/go-cmp/cmp"
)

// intent is the record of a mint of AWS credentials that is about to happen.
func intent(n int) audit.Record {
	r := record(n)
	r.Action, r.Outcome, r.TokenID = "mint.aws_creds", audit.Pending, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	r.Tenant, r.Agent, r.Service, r.ScopePath, r.GrantID = "0x52908400098527886e0f7030069857d2e4169ee7", "nightly report", "s3", "reports/2026", "grn-ABCDEFGHIJKLMNOP"
	return r
}

// outcome is the record of what came of an intent.
func outcome(of audit.Record, how string) audit.Record {
	r := of
	r.ID, r.Settles, r.Outcome, r.CredentialID = "", of.ID, how, "ASIAIOSFODNN7EXAMPLE"
	return r
}

func TestMembersOfCredentials(t *testing.T) {
	s := newStore(t)
	pending := mustAppend(t, s, intent(1))
	confirmed := mustAppend(t, s, outcome(pending, audit.Confirmed))
	if diff := cmp.Diff([]audit.Record{confirmed, pending}, mustList(t, s, audit.Query{})); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
	if confirmed.Settles != pending.ID || confirmed.ID == pending.ID {
		t.Errorf("the outcome %s settles %s, want %s", confirmed.ID, confirmed.Settles, pending.ID)
	}
}

func TestMembersOfCredentialsHaveBounds(t *testing.T) {
	s := newStore(t)
	for member, longest := range map[string]int{"tenant": 128, "agent": 128, "service": 32, "scope_path": 256, "grant_id": 64, "credential_id": 128} {
		for _, n := range []int{longest, longest + 1} {
			r := record(1)
			*members[member](&r) = strings.Repeat("x", n)
			err := appendTo(t.Context(), s, &r)
			if want := fmt.Sprintf("%s: want at most %d bytes, got %d", member, longest, n); (err == nil) != (n == longest) || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s of %d bytes: %v", member, n, err)
			}
		}
	}
	for _, id := range []string{"1", "01arz3ndektsv4rrffq69g5fav", "01ARZ3NDEKTSV4RRFFQ69G5FAVX"} {
		r := record(1)
		r.Settles = id
		if err := appendTo(t.Context(), s, &r); err == nil || !strings.Contains(err.Error(), "settles: want a ULID in capitals") {
			t.Errorf("settles %q: %v", id, err)
		}
	}
}

// A caller that needs the ID beforehand gets the one that the record then has.
func TestNamedBeforehand(t *testing.T) {
	s := newStore(t)
	r := intent(1)
	if err := r.Name(); err != nil {
		t.Fatal(err)
	}
	id := r.ID
	if err := r.Name(); err != nil || r.ID != id || id == "" {
		t.Errorf("named again: %q, %v, want %q", r.ID, err, id)
	}
	if got := mustAppend(t, s, r); got.ID != id || mustList(t, s, audit.Query{})[0].ID != id {
		t.Errorf("appended as %q, want %q", got.ID, id)
	}
}

func TestOneOutcomePerIntent(t *testing.T) {
	s := newStore(t)
	pending := mustAppend(t, s, intent(1))
	for range 3 { // records that settle nothing are not in each other's way
		mustAppend(t, s, record(2))
	}
	var settled atomic.Int64
	var wg sync.WaitGroup
	for n := range 64 {
		wg.Go(func() {
			r := outcome(pending, []string{audit.Confirmed, audit.Failed, audit.Quarantined}[n%3])
			if appendTo(t.Context(), s, &r) == nil {
				settled.Add(1)
			}
		})
	}
	wg.Wait()
	var outcomes []audit.Record
	for _, r := range mustList(t, s, audit.Query{}) {
		if r.Settles == pending.ID {
			outcomes = append(outcomes, r)
		}
	}
	if settled.Load() != 1 || len(outcomes) != 1 {
		t.Fatalf("%d outcomes were appended and %d are there, want 1 and 1", settled.Load(), len(outcomes))
	}
	other := mustAppend(t, s, intent(3))
	mustAppend(t, s, outcome(other, audit.Failed))
}

// An outcome that is there is not replaced by another, whatever rows SQL asks for.
func TestOutcomeCannotBeReplaced(t *testing.T) {
	s := newStore(t)
	pending := mustAppend(t, s, intent(1))
	mustAppend(t, s, outcome(pending, audit.Failed))
	want := mustList(t, s, audit.Query{})
	const forged = `audit_records (id, time, action, outcome, reason, identity_type, identity_value, omni_account, wallet, key_id, token_id, source, request_id, settles)
		VALUES ('01ARZ3NDEKTSV4RRFFQ69G5FAV', 0, 'mint.aws_creds', 'confirmed', '', '', '', '', '', '', '', '', 'r', $1)`
	for _, query := range []string{"INSERT INTO " + forged, "INSERT OR REPLACE INTO " + forged, "REPLACE INTO " + forged,
		"INSERT INTO " + forged + " ON CONFLICT (settles) WHERE settles <> '' DO UPDATE SET outcome = 'confirmed'"} {
		err := s.Update(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), query, pending.ID)
			return err
		})
		if err == nil {
			t.Errorf("the database let %q run", query)
		}
		if diff := cmp.Diff(want, mustList(t, s, audit.Query{})); diff != "" {
			t.Fatalf("after %q the records differ (-want +got):\n%s", query, diff)
		}
	}
}
