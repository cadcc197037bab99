package audit_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agentkeys/audit"
	"agentkeys/store"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

func newStore(t testing.TB) *store.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	if err := store.Create(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// record is complete; n tells it apart.
func record(n int) audit.Record {
	return audit.Record{
		Time: noon.Add(time.Duration(n) * time.Second), Action: "mint.oidc_jwt", Outcome: "issued",
		IdentityType: "evm", IdentityValue: "0x71c7656ec7ab88b098defb751b7401b5f6d8976f",
		OmniAccount: "9b2c", Wallet: "0x71c7656ec7ab88b098defb751b7401b5f6d8976f",
		KeyID: "ak-oidc-n4bQ", TokenID: fmt.Sprintf("jti-%d", n), Source: "2001:db8::1", RequestID: fmt.Sprintf("req-%d", n),
	}
}

func appendTo(ctx context.Context, s *store.Store, r *audit.Record) error {
	return s.Update(ctx, func(tx *sql.Tx) error { return audit.Append(ctx, tx, r) })
}

func mustAppend(t testing.TB, s *store.Store, r audit.Record) audit.Record {
	t.Helper()
	if err := appendTo(t.Context(), s, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func list(t testing.TB, s *store.Store, q audit.Query) (records []audit.Record, err error) {
	t.Helper()
	err = s.View(t.Context(), func(tx *sql.Tx) (err error) {
		found, err := audit.Find(t.Context(), tx, q)
		for _, e := range found {
			records = append(records, e.Record)
		}
		return err
	})
	return records, err
}

func mustList(t testing.TB, s *store.Store, q audit.Query) []audit.Record {
	t.Helper()
	records, err := list(t, s, q)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func TestAppendThenList(t *testing.T) {
	s := newStore(t)
	full := mustAppend(t, s, record(1))
	least := mustAppend(t, s, audit.Record{
		Time: noon.Add(1500*time.Microsecond + 7).In(time.FixedZone("", 3600)), Action: "auth.wallet.start", Outcome: "refused", RequestID: "req",
	})
	least.Time = noon.Add(time.Millisecond) // kept to the millisecond, in UTC
	if diff := cmp.Diff([]audit.Record{least, full}, mustList(t, s, audit.Query{})); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
}

func TestAppendRefuses(t *testing.T) {
	s := newStore(t)
	for name, tt := range map[string]struct {
		change func(*audit.Record)
		want   string
	}{
		"no time":              {func(r *audit.Record) { r.Time = time.Time{} }, "time is missing"},
		"time before 1970":     {func(r *audit.Record) { r.Time = time.Unix(-1, 0) }, "want a year from 1970 to 9999, got 1969"},
		"time after 9999":      {func(r *audit.Record) { r.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "got 10000"},
		"no action":            {func(r *audit.Record) { r.Action = "" }, `action: want words like "mint.oidc_jwt", got ""`},
		"action in capitals":   {func(r *audit.Record) { r.Action = "Mint" }, `got "Mint"`},
		"action with spaces":   {func(r *audit.Record) { r.Action = "mint issued" }, `got "mint issued"`},
		"action ends in a dot": {func(r *audit.Record) { r.Action = "mint." }, `got "mint."`},
		"action starts so":     {func(r *audit.Record) { r.Action = ".mint" }, `got ".mint"`},
		"action word by digit": {func(r *audit.Record) { r.Action = "mint.2" }, `got "mint.2"`},
		"no outcome":           {func(r *audit.Record) { r.Outcome = "" }, `outcome: want a word like "issued", got ""`},
		"outcome with a dot":   {func(r *audit.Record) { r.Outcome = "is.sued" }, `got "is.sued"`},
		"no request id":        {func(r *audit.Record) { r.RequestID = "" }, "request_id is missing"},
		"own id":               {func(r *audit.Record) { r.ID = "1" }, `id: want a ULID in capitals, got "1"`},
		"id in lower case":     {func(r *audit.Record) { r.ID = "01arz3ndektsv4rrffq69g5fav" }, `got "01arz3ndektsv4rrffq69g5fav"`},
		"reason too long":      {func(r *audit.Record) { r.Reason = strings.Repeat("é", 129) }, "reason: want at most 256 bytes, got 258"},
		"source too long":      {func(r *audit.Record) { r.Source = strings.Repeat("1", 129) }, "source: want at most 128 bytes, got 129"},
		"e-mail too long":      {func(r *audit.Record) { r.IdentityValue = strings.Repeat("a", 321) }, "identity_value: want at most 320 bytes, got 321"},
	} {
		t.Run(name, func(t *testing.T) {
			r := record(1)
			tt.change(&r)
			err := appendTo(t.Context(), s, &r)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "appending audit record: ") {
				t.Errorf("Append = %v, want %q", err, tt.want)
			}
		})
	}
	if got := mustList(t, s, audit.Query{}); len(got) != 0 {
		t.Errorf("refused records were kept: %+v", got)
	}
}

// members are the texts of a record that may come from outside.
var members = map[string]func(*audit.Record) *string{
	"reason":         func(r *audit.Record) *string { return &r.Reason },
	"identity_type":  func(r *audit.Record) *string { return &r.IdentityType },
	"identity_value": func(r *audit.Record) *string { return &r.IdentityValue },
	"omni_account":   func(r *audit.Record) *string { return &r.OmniAccount },
	"wallet":         func(r *audit.Record) *string { return &r.Wallet },
	"key_id":         func(r *audit.Record) *string { return &r.KeyID },
	"token_id":       func(r *audit.Record) *string { return &r.TokenID },
	"source":         func(r *audit.Record) *string { return &r.Source },
	"request_id":     func(r *audit.Record) *string { return &r.RequestID },
	"action":         func(r *audit.Record) *string { return &r.Action },
	"outcome":        func(r *audit.Record) *string { return &r.Outcome },
	"tenant":         func(r *audit.Record) *string { return &r.Tenant },
	"agent":          func(r *audit.Record) *string { return &r.Agent },
	"service":        func(r *audit.Record) *string { return &r.Service },
	"scope_path":     func(r *audit.Record) *string { return &r.ScopePath },
	"grant_id":       func(r *audit.Record) *string { return &r.GrantID },
	"credential_id":  func(r *audit.Record) *string { return &r.CredentialID },
	"settles":        func(r *audit.Record) *string { return &r.Settles },
}

func TestRecordCannotBeForged(t *testing.T) {
	s := newStore(t)
	for name, text := range map[string]string{
		"line break":      "x\noutcome=issued",
		"carriage return": "x\routcome=issued",
		"NUL":             "x\x00y",
		"terminal escape": "x\x1b[2K",
		"delete":          "x\x7f",
		"C1 control":      "x\u009b2K",
		"next line":       "x\u0085y",
		"line separator":  "x\u2028y",
		"right to left":   "x\u202egnp.exe",
		"isolate":         "x\u2066y",
		"zero width":      "x\u200by",
		"byte order mark": "\ufeffx",
		"tag characters":  "x\U000e0041",
		"not UTF-8":       "x\xff",
		"surrogate":       "x\xed\xa0\x80",
		"private use":     "x\ue000",
		"unassigned":      "x\U000fffff",
	} {
		for member, of := range members {
			r := record(1)
			*of(&r) = text
			if err := appendTo(t.Context(), s, &r); err == nil || !strings.Contains(err.Error(), member+": ") || strings.ContainsAny(err.Error(), "\n\r\x1b\x00") {
				t.Errorf("%s in %s: Append = %v, want a refusal that names it and repeats nothing", name, member, err)
			}
		}
	}
	for _, text := range []string{"Jürgen O'Neill <j@exämple.org>", "名前", "a b", `"quoted" \n`, "'); DROP TABLE audit_records; --"} {
		r := record(1)
		r.IdentityValue = text
		if got := mustAppend(t, s, r); mustList(t, s, audit.Query{Limit: 1})[0].IdentityValue != got.IdentityValue {
			t.Errorf("text %q was changed", text)
		}
	}
}

func TestRecordsCannotBeChanged(t *testing.T) {
	s := newStore(t)
	want := []audit.Record{mustAppend(t, s, record(1))}
	id := want[0].ID
	row := `(1, '` + id + `', 0, 'forged', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '')`
	for _, query := range []string{
		"UPDATE audit_records SET outcome = 'refused'",
		"UPDATE audit_records SET seq = 9",
		"UPDATE OR REPLACE audit_records SET time = 0",
		"UPDATE OR IGNORE audit_records SET time = 0",
		"DELETE FROM audit_records",
		"DELETE FROM audit_records WHERE id = '" + id + "'",
		"INSERT INTO audit_records VALUES " + row,
		"REPLACE INTO audit_records VALUES " + row,
		"INSERT OR REPLACE INTO audit_records VALUES " + row,
		"INSERT OR REPLACE INTO audit_records VALUES " + strings.Replace(row, "(1,", "(2,", 1), // by its ID alone
		"INSERT INTO audit_records VALUES " + row + " ON CONFLICT DO UPDATE SET outcome = 'refused'",
	} {
		err := s.Update(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), query)
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

func TestSameIDTwice(t *testing.T) {
	s := newStore(t)
	r := mustAppend(t, s, record(1))
	if err := appendTo(t.Context(), s, &r); err == nil {
		t.Error("a record was appended twice under one ID")
	}
}

func TestIDs(t *testing.T) {
	s := newStore(t)
	var got []string
	for _, n := range []int{5, 5, 6, 1, 0, 7, 7} { // the clock is set back in between
		got = append(got, mustAppend(t, s, record(n)).ID)
	}
	if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Errorf("IDs do not grow: %q", got)
	}
	id, err := ulid.ParseStrict(got[len(got)-1])
	if err != nil || id.Timestamp().Before(noon.Add(7*time.Second)) {
		t.Errorf("the ID %q is of %v (%v), want the time of its record or later", id, id.Timestamp(), err)
	}
}

func TestConcurrentAppends(t *testing.T) {
	s := newStore(t)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 5 {
				r := record(1)
				if err := appendTo(t.Context(), s, &r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var got []string
	for _, r := range mustList(t, s, audit.Query{Limit: audit.MaxLimit}) {
		got = append(got, r.ID)
	}
	slices.Reverse(got)
	if len(got) != 64*5 || !slices.IsSorted(got) {
		t.Errorf("%d records, sorted as they were appended: %t; want 320 and true", len(got), slices.IsSorted(got))
	}
}

func TestListFilters(t *testing.T) {
	s := newStore(t)
	for n := range 8 {
		r := record(n)
		r.OmniAccount = []string{"alice", "bob"}[n%2]
		r.Action = []string{"mint.oidc_jwt", "auth.wallet.verify"}[n/2%2]
		r.Outcome = []string{"issued", "refused"}[n/4]
		mustAppend(t, s, r)
	}
	at := func(n int, more time.Duration) time.Time { return noon.Add(time.Duration(n)*time.Second + more) }
	for name, tt := range map[string]struct {
		query audit.Query
		want  string
	}{
		"all":              {audit.Query{}, "76543210"},
		"limit":            {audit.Query{Limit: 3}, "765"},
		"account":          {audit.Query{OmniAccount: "bob"}, "7531"},
		"unknown account":  {audit.Query{OmniAccount: "b%"}, ""},
		"action":           {audit.Query{Action: "auth.wallet.verify"}, "7632"},
		"outcome":          {audit.Query{Outcome: "issued"}, "3210"},
		"since":            {audit.Query{Since: at(5, 0)}, "765"},
		"since, between":   {audit.Query{Since: at(5, 1)}, "76"},
		"until":            {audit.Query{Until: at(5, 0)}, "43210"},
		"until, between":   {audit.Query{Until: at(5, 1)}, "543210"},
		"an empty stretch": {audit.Query{Since: at(5, 0), Until: at(5, 0)}, ""},
		"all at once":      {audit.Query{OmniAccount: "alice", Action: "mint.oidc_jwt", Outcome: "issued", Since: at(0, 0), Until: at(1, 0), Limit: 9}, "0"},
		"injection":        {audit.Query{Outcome: "issued' OR '1'='1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			for _, r := range mustList(t, s, tt.query) {
				got.WriteString(strings.TrimPrefix(r.RequestID, "req-"))
			}
			if got.String() != tt.want {
				t.Errorf("Find(%+v) = %q, want %q", tt.query, got.String(), tt.want)
			}
		})
	}
}

func TestPagesAreStable(t *testing.T) {
	s := newStore(t)
	for n := range 10 {
		r := record(-n) // the newest by time come first
		r.OmniAccount = []string{"alice", "bob"}[n%2]
		mustAppend(t, s, r)
	}
	var got []string
	q := audit.Query{OmniAccount: "bob", Limit: 2}
	for page := mustList(t, s, q); len(page) > 0; page = mustList(t, s, q) {
		for _, r := range page {
			got = append(got, r.RequestID)
		}
		q.Before = page[len(page)-1].Seq
		late := record(100 + len(got))
		late.OmniAccount = "bob"
		mustAppend(t, s, late)
	}
	if want := []string{"req--9", "req--7", "req--5", "req--3", "req--1"}; !slices.Equal(got, want) {
		t.Errorf("pages hold %q, want %q", got, want)
	}
}

func TestListRefuses(t *testing.T) {
	s := newStore(t)
	for want, q := range map[string]audit.Query{
		"limit: want 0 to 1000, got -1":                                    {Limit: -1},
		"limit: want 0 to 1000, got 1001":                                  {Limit: audit.MaxLimit + 1},
		"cursor: want a place from 1, got -1":                              {Before: -1},
		"cursor: want a place from 1, got -2":                              {After: -2},
		`status: want pending, confirmed, failed, quarantined, got "sent"`: {Status: "sent"},
	} {
		if _, err := list(t, s, q); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Find(%+v) = %v, want %q", q, err, want)
		}
	}
}

func TestDefaultLimit(t *testing.T) {
	s := newStore(t)
	err := s.Update(t.Context(), func(tx *sql.Tx) error {
		for n := range audit.DefaultLimit + 1 {
			r := record(n)
			if err := audit.Append(t.Context(), tx, &r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(mustList(t, s, audit.Query{})); got != audit.DefaultLimit {
		t.Errorf("List returned %d records, want %d", got, audit.DefaultLimit)
	}
}

// One of a thing is not many.
func TestCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0 records", 1: "1 record", 2: "2 records", -1: "-1 records"} {
		if got := audit.Count(n, "record"); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
	if got := audit.Count(1, "sign-in") + audit.Count(2, "sign-in"); got != "1 sign-in2 sign-ins" {
		t.Errorf("got %q", got)
	}
}
