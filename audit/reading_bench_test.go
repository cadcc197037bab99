package audit_test

import (
	"database/sql"
	"testing"

	"agentkeys/audit"
)

// Reading what a filter lets nothing of through: the most that a page can cost.
func BenchmarkReadNothing(b *testing.B) {
	s := newStore(b)
	err := s.Update(b.Context(), func(tx *sql.Tx) error {
		for range 50_000 {
			r := audit.Record{Time: noon, RequestID: "r", Action: "mint.oidc_jwt", Outcome: audit.Issued, OmniAccount: "aa", Tenant: "0xa"}
			if err := audit.Append(b.Context(), tx, &r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		err := s.View(b.Context(), func(tx *sql.Tx) error {
			_, err := audit.Read(b.Context(), tx, audit.Reading{Owner: &audit.Owner{Account: "aa", Tenant: "0xa"}, Outcome: "none", Limit: 100})
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
