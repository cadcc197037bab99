// The invariant, as every test in the invariant_*_test.go files re-checks it over the
// whole state (the database, every anchor, what STS gave, all answers so far) after
// each step:
//
//   - STS is asked only with a record of intent that is durable in the database and at
//     every anchor, and gives credentials at most once for each intent;
//   - what STS gave is confirmed or quarantined, or its intent is pending and its
//     deadline has not passed; an intent has at most one outcome, and an outcome settles
//     one intent and says the same as it; a confirmed one may be taken back once, by a
//     quarantined one that says the same as it and settles it, and then it was never
//     released, before or after;
//   - credentials are in an answer only if it is a 200, and then the intent and its
//     confirmed outcome, with the id of the access key, are durable in the database and
//     at every anchor before the answer arrives;
//   - an anchor holds what the database committed, and nothing else; it is given records
//     in the order of the log, none before those before it, and one call at a time;
//   - a request_id of a wallet leads to at most one intent, and so to one call of STS
//     that gives, and what it gave goes to its caller alone, each time with a record;
//   - the uses of a grant are the records of intent that name it, and no more than it has;
//   - every other answer than that nothing could be recorded has its record;
//   - no secret that STS gave is in the database's files, in the log or in an answer
//     that is not a 200.
package broker_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
)

// checkInvariant checks the whole of it, of secrets those that were given last; all of
// them it is checkSecrets that looks for. Whoever moved the clock has settled since.
func checkInvariant(t *testing.T, w *world, step string) {
	t.Helper()
	given := w.aws.Issued()
	for _, violation := range append(w.violations(), w.leaks(given[max(0, len(given)-2):])...) {
		t.Errorf("after %q: %s", step, violation)
	}
}

// checkSecrets looks for every secret that STS gave.
func checkSecrets(t *testing.T, w *world, step string) {
	t.Helper()
	for _, leak := range w.leaks(w.aws.Issued()) {
		t.Errorf("after %q: %s", step, leak)
	}
}

// state is all that there is to check, at one moment.
type state struct {
	now      time.Time
	records  map[string]audit.Record // of mints, by ID
	intents  []audit.Record          // in the order of appending
	outcomes map[string][]audit.Record
	back     map[string][]audit.Record // what takes a confirmed outcome back, by its ID
	mints    []mintRow
	grants   []grantRow
	issued   map[string][]string // access key ids by the jti of the token
	broken   []string
}

type mintRow struct {
	requestID, recordID, state string
	settleBy                   time.Time
}

type grantRow struct {
	id, lastRecord string
	used, most     int
}

func (s *state) violated(format string, args ...any) {
	s.broken = append(s.broken, fmt.Sprintf(format, args...))
}

func (w *world) violations() []string {
	// What STS gave, what was answered and what the anchors hold come first: the
	// records of it are older.
	given, replies, noted := w.aws.Issued(), w.replies(), w.noted()
	held := map[string][]audit.Record{} // by the name of the anchor
	for _, p := range w.places {
		held[p.name] = p.all()
		noted = append(noted, p.faulty()...)
	}
	s := &state{now: w.now(), records: map[string]audit.Record{}, outcomes: map[string][]audit.Record{}, issued: map[string][]string{}, broken: noted}
	for _, g := range given {
		jti, err := tokenID(g.WebIdentity)
		if err != nil {
			s.violated("STS gave credentials for what is no token: %v", err)
		}
		s.issued[jti] = append(s.issued[jti], g.AccessKeyID)
	}
	if err := w.view(context.Background(), s.read); err != nil {
		s.violated("the database cannot be read: %v", err)
		return s.broken
	}
	s.checkIntents()
	s.checkRequests()
	s.checkIssued(len(given))
	s.checkGrants()
	s.checkAnchors(held)
	s.checkReplies(replies, w.places)
	return s.broken
}

func (s *state) read(tx *sql.Tx) error {
	ctx := context.Background()
	q := audit.Query{Action: "mint.aws_credentials", Limit: audit.MaxLimit}
	for page := 1; ; page++ {
		found, err := audit.Find(ctx, tx, q)
		if err != nil {
			return err
		}
		for _, r := range found {
			s.records[r.ID] = r.Record
			if r.Outcome == audit.Pending {
				s.intents = append(s.intents, r.Record)
			}
			q.Before = r.Seq
		}
		if len(found) < q.Limit {
			break
		}
	}
	slices.Reverse(s.intents)
	s.back = map[string][]audit.Record{}
	for _, r := range s.records {
		switch {
		case r.Settles == "":
		case s.records[r.Settles].Outcome == audit.Confirmed:
			s.back[r.Settles] = append(s.back[r.Settles], r)
		default:
			s.outcomes[r.Settles] = append(s.outcomes[r.Settles], r)
		}
	}
	if err := s.readMints(ctx, tx); err != nil {
		return err
	}
	return s.readGrants(ctx, tx)
}

func (s *state) readMints(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, "SELECT request_id, record_id, state, settle_by FROM mints")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var m mintRow
		var settleBy int64
		if err := rows.Scan(&m.requestID, &m.recordID, &m.state, &settleBy); err != nil {
			return err
		}
		m.settleBy = time.UnixMilli(settleBy)
		s.mints = append(s.mints, m)
	}
	return rows.Err()
}

func (s *state) readGrants(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, "SELECT grant_id, last_record_id, used_count, max_uses FROM grants")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var g grantRow
		if err := rows.Scan(&g.id, &g.lastRecord, &g.used, &g.most); err != nil {
			return err
		}
		s.grants = append(s.grants, g)
	}
	return rows.Err()
}

// checkIntents holds intents, outcomes and remembered calls against each other.
func (s *state) checkIntents() {
	pending := map[string]mintRow{}
	for _, m := range s.mints {
		s.checkRow(m)
		if m.state == audit.Pending {
			pending[m.recordID] = m
		}
	}
	for _, intent := range s.intents {
		outcomes := s.outcomes[intent.ID]
		row, isPending := pending[intent.ID]
		switch {
		case len(outcomes) > 1:
			s.violated("intent %s has %d outcomes", intent.ID, len(outcomes))
		case len(outcomes) == 1 && isPending:
			s.violated("intent %s is %s and pending", intent.ID, outcomes[0].Outcome)
		case len(outcomes) == 0 && !isPending:
			s.violated("intent %s has no outcome and is not pending", intent.ID)
		case len(outcomes) == 0 && !s.now.Before(row.settleBy):
			s.violated("intent %s is pending since its deadline %v, and it is %v", intent.ID, row.settleBy, s.now)
		}
	}
	for id, outcomes := range s.outcomes {
		intent, found := s.records[id]
		if !found || intent.Outcome != audit.Pending {
			s.violated("an outcome settles %s, which is no intent: %+v", id, intent)
			continue
		}
		for _, o := range outcomes {
			if !sameMatter(intent, o) {
				s.violated("an outcome is of another matter than its intent:\n%+v\n%+v", o, intent)
			}
		}
	}
	for id, back := range s.back {
		confirmed := s.records[id]
		for _, r := range back {
			want := confirmed
			want.Seq, want.ID, want.Outcome, want.Reason, want.Settles = r.Seq, r.ID, audit.Quarantined, string(api.CodeAuditUnavailable), id
			if len(back) != 1 || want != r || r.Seq <= confirmed.Seq {
				s.violated("a confirmed outcome is taken back %d times, by another matter or before:\n%+v\n%+v", len(back), r, confirmed)
			}
		}
	}
}

// final is what an intent came to: its outcome, or that it was taken back.
func (s *state) final(o audit.Record) string {
	if len(s.back[o.ID]) > 0 {
		return audit.Quarantined
	}
	return o.Outcome
}

// sameMatter says whether an outcome is about what its intent is about.
func sameMatter(intent, o audit.Record) bool {
	want := intent
	want.Seq, want.ID, want.Time, want.RequestID, want.Outcome, want.Reason, want.Settles, want.CredentialID = o.Seq, o.ID, o.Time, o.RequestID, o.Outcome, o.Reason, intent.ID, o.CredentialID
	final := []string{audit.Confirmed, audit.Failed, audit.Quarantined}
	return want == o && slices.Contains(final, o.Outcome)
}

func (s *state) checkRow(m mintRow) {
	record, found := s.records[m.recordID]
	if !found {
		s.violated("call %s is remembered with the record %s, which is not there", m.requestID, m.recordID)
		return
	}
	state := record.Outcome
	if o := s.outcomes[record.ID]; len(o) > 0 {
		state = s.final(o[0])
	}
	if state != m.state {
		s.violated("call %s is remembered as %s, and its records say %s", m.requestID, m.state, state)
	}
}

// checkRequests counts the intents of each request_id of each wallet.
func (s *state) checkRequests() {
	seen := map[[2]string]string{}
	for _, intent := range s.intents {
		requestID, _, _ := strings.Cut(intent.RequestID, ".") // as world.send names its calls
		id := [2]string{intent.Wallet, requestID}
		if seen[id] != "" {
			s.violated("request_id %s led to two intents, %s and %s", requestID, seen[id], intent.ID)
		}
		seen[id] = intent.ID
	}
}

// checkIssued holds what STS gave against the intents and their outcomes.
func (s *state) checkIssued(given int) {
	if given > len(s.intents) {
		s.violated("STS gave %d credentials for %d intents", given, len(s.intents))
	}
	byToken := map[string]audit.Record{}
	for _, intent := range s.intents {
		byToken[intent.TokenID] = intent
	}
	for jti, ids := range s.issued {
		intent, found := byToken[jti]
		if !found || len(ids) != 1 {
			s.violated("STS gave %d credentials for token %s, with an intent: %t", len(ids), jti, found)
			continue
		}
		for _, o := range s.outcomes[intent.ID] {
			known := o.CredentialID == ids[0] || o.Outcome == audit.Quarantined && o.CredentialID == ""
			if !known || o.Outcome == audit.Failed {
				s.violated("STS gave %s, and intent %s is %s with %q", ids[0], intent.ID, o.Outcome, o.CredentialID)
			}
		}
	}
	for _, intent := range s.intents {
		for _, o := range s.outcomes[intent.ID] {
			if o.CredentialID != "" && !slices.Contains(s.issued[intent.TokenID], o.CredentialID) {
				s.violated("intent %s is %s with %q, which STS did not give for it", intent.ID, o.Outcome, o.CredentialID)
			}
			if o.Outcome == audit.Confirmed && o.CredentialID == "" {
				s.violated("intent %s is confirmed without an access key", intent.ID)
			}
		}
	}
}

func (s *state) checkGrants() {
	uses, last := map[string]int{}, map[string]string{}
	for _, intent := range s.intents {
		uses[intent.GrantID]++
		last[intent.GrantID] = intent.ID
	}
	delete(uses, "") // of a migration: without a grant
	for _, g := range s.grants {
		if g.used != uses[g.id] || g.used > g.most || g.lastRecord != last[g.id] {
			s.violated("grant %s: used %d times of %d, last by %q; it has %d intents, the last %q",
				g.id, g.used, g.most, g.lastRecord, uses[g.id], last[g.id])
		}
		delete(uses, g.id)
	}
	for id, n := range uses {
		s.violated("%d intents are of the grant %q, which there is not", n, id)
	}
}

// checkAnchors wants no anchor to hold a record that the database does not have.
func (s *state) checkAnchors(held map[string][]audit.Record) {
	for name, records := range held {
		for _, r := range records {
			if r.Action != "mint.aws_credentials" {
				continue
			}
			if here, found := s.records[r.ID]; !found || here != r {
				s.violated("anchor %s holds a record that the database does not have, or has another of its ID:\n%+v\n%+v", name, r, here)
			}
		}
	}
}

// recorded says what is missing of the records of an answer with credentials.
func (s *state) recorded(a *api.MintAWSResponse, places []*place) string {
	intent, outcomes := s.records[a.AuditRecordID], s.outcomes[a.AuditRecordID]
	if intent.Outcome != audit.Pending || len(outcomes) != 1 {
		return fmt.Sprintf("its intent %q is %+v with the outcomes %+v", a.AuditRecordID, intent, outcomes)
	}
	if o := outcomes[0]; o.Outcome != audit.Confirmed || o.CredentialID != a.AccessKeyID || o.Tenant != a.Wallet {
		return fmt.Sprintf("its outcome is %+v", o)
	}
	if back := s.back[outcomes[0].ID]; len(back) > 0 {
		return fmt.Sprintf("it was taken back: %+v", back)
	}
	want := []string{"sqlite"}
	for _, p := range places {
		want = append(want, p.name)
		if !p.holds(intent.ID) || !p.holds(outcomes[0].ID) {
			return fmt.Sprintf("anchor %s holds the intent: %t, the outcome: %t", p.name, p.holds(intent.ID), p.holds(outcomes[0].ID))
		}
	}
	if !slices.Equal(a.Anchored, want) {
		return fmt.Sprintf("it says that it is anchored at %v, want %v", a.Anchored, want)
	}
	return ""
}

// checkReplies holds the answers against the records.
func (s *state) checkReplies(replies []reply, places []*place) {
	byRequest, replays := map[string]bool{}, map[string]int{}
	for _, r := range s.records {
		byRequest[r.RequestID] = true
		if r.Outcome == audit.Replayed {
			replays[r.CredentialID]++
		}
	}
	owner, times := map[string][2]string{}, map[string]int{}
	for _, r := range replies {
		if r.creds == nil {
			if code := r.problem.Code; code == api.CodeInternal || code != api.CodeAuditUnavailable && !byRequest[r.id] {
				s.violated("the answer %d %s to %s has a record: %t", r.status, code, r.id, byRequest[r.id])
			}
			continue
		}
		if missing := s.recorded(r.creds, places); missing != "" {
			s.violated("%s was released: %s", r.creds.AccessKeyID, missing)
		}
		caller := [2]string{r.wallet, r.requestID}
		if first, known := owner[r.creds.AccessKeyID]; known && first != caller {
			s.violated("%s was released to %v and to %v", r.creds.AccessKeyID, first, caller)
		}
		owner[r.creds.AccessKeyID] = caller
		if intent := s.records[r.creds.AuditRecordID]; intent.Wallet != r.wallet || !strings.HasPrefix(intent.RequestID, r.requestID+".") {
			s.violated("%v got what %s asked for with %s", caller, intent.Wallet, intent.RequestID)
		}
		if times[r.creds.AccessKeyID]++; times[r.creds.AccessKeyID] > 1+replays[r.creds.AccessKeyID] {
			s.violated("%s was released %d times with %d records of replays", r.creds.AccessKeyID, times[r.creds.AccessKeyID], replays[r.creds.AccessKeyID])
		}
	}
}

// leaks looks for what STS gave where it may not be.
func (w *world) leaks(given []agentkeystest.Issued) (found []string) {
	places := map[string][]byte{"the log": []byte(w.log())}
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(w.database + suffix)
		if err != nil && !os.IsNotExist(err) {
			found = append(found, fmt.Sprintf("reading the database's file: %v", err))
		}
		places["the database's file "+suffix] = data
	}
	var refusals bytes.Buffer
	for _, r := range w.replies() {
		if r.status != http.StatusOK {
			refusals.Write(r.body)
		}
	}
	places["an answer that is not a 200"] = refusals.Bytes()
	for _, i := range given {
		for where, text := range places {
			if bytes.Contains(text, []byte(i.SecretAccessKey)) || bytes.Contains(text, []byte(i.SessionToken)) {
				found = append(found, fmt.Sprintf("a secret of %s is in %s", i.AccessKeyID, where))
			}
		}
	}
	return found
}

// settle lets the broker do what it does every few seconds.
func (w *world) settle(t *testing.T) {
	t.Helper()
	if err := w.broker.Settle(t.Context()); err != nil {
		t.Errorf("settling: %v", err)
	}
}

// pass moves the clock, and settles.
func (w *world) pass(t *testing.T, d time.Duration) {
	t.Helper()
	w.clock.Move(d)
	w.settle(t)
}

// overdue is more than an intent may be without an outcome.
const overdue = broker.PendingTime + time.Second
