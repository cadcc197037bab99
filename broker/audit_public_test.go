package broker_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
)

// A verifier knows the log by its public key, and has tlog and note: nothing of ours.
type verifier struct {
	origin string
	note.Verifier
}

func newVerifier(t *testing.T, k *agentkeystest.Broker) verifier {
	t.Helper()
	origin := strings.TrimPrefix(k.Issuer, "http://") + "/audit"
	key, err := k.AuditKey.Verifier(origin)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	return verifier{origin, v}
}

func (v verifier) tree(t *testing.T, checkpoint string) tlog.Tree {
	t.Helper()
	n, err := note.Open([]byte(checkpoint), note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != v.origin {
		t.Fatalf("checkpoint of another log: %q", n.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil {
		t.Fatal(err)
	}
	return tlog.Tree{N: size, Hash: tlog.Hash(root)}
}

func fromHex(t *testing.T, texts ...string) (hashes []tlog.Hash) {
	t.Helper()
	for _, text := range texts {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != tlog.HashSize {
			t.Fatalf("%q is no hash: %v", text, err)
		}
		hashes = append(hashes, tlog.Hash(b))
	}
	return hashes
}

// What an owner is shown is in the log: from the entry's line alone, by the public key.
func TestOwnersVerifyTheirEntries(t *testing.T) {
	k, _ := agentkeystest.NewWithAWS(t)
	owner, daemon := k.Party(t), k.Party(t)
	k.Grant(t, owner, daemon, "a")
	if _, problem := k.Mint(t, k.NewCall(daemon, "a").Sign(t)); problem != nil {
		t.Fatal(problem)
	}
	page := entries(t, k, owner, "")
	k.Head(t)
	v := newVerifier(t, k)
	for _, e := range page.Entries {
		p, err := k.Client.AuditProof(t.Context(), e.ID)
		if err != nil {
			t.Fatal(err)
		}
		var line struct {
			Leaf json.RawMessage `json:"leaf"`
		}
		if err := json.Unmarshal([]byte(e.Line), &line); err != nil {
			t.Fatal(err)
		}
		tree := v.tree(t, p.Checkpoint)
		leaf := tlog.RecordHash(line.Leaf)
		if p.Origin != v.origin || p.Size != tree.N || p.Index != e.Place-1 || p.LeafHash != e.Hash || fromHex(t, p.LeafHash)[0] != leaf {
			t.Errorf("proof %+v of %+v", p, e)
		}
		if err := tlog.CheckRecord(fromHex(t, p.Hashes...), tree.N, tree.Hash, p.Index, leaf); err != nil {
			t.Errorf("%s: %v", e.ID, err)
		}
		changed := bytes.Replace(line.Leaf, []byte(`"outcome":"`), []byte(`"outcome":"x`), 1)
		if tlog.CheckRecord(fromHex(t, p.Hashes...), tree.N, tree.Hash, p.Index, tlog.RecordHash(changed)) == nil {
			t.Error("the proof holds for another record")
		}
	}
	if len(page.Entries) != 4 {
		t.Errorf("%d entries, want 4", len(page.Entries))
	}
}

// "agentkeys audit verify-proof" reads the broker's answer as it is.
func TestAnswersAreProofs(t *testing.T) {
	k := agentkeystest.New(t)
	k.Party(t)
	head := k.Head(t)
	e := records(t, k)[0]
	a := send(t, k, "GET", api.PathAuditProof+e.ID, "")
	p, err := audit.ParseProof(a.body)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Verify(head.Origin, []note.Verifier{newVerifier(t, k).Verifier}, *p.Leaf); err != nil || got != head {
		t.Errorf("verified to %+v, %v; want %+v", got, err, head)
	}
}

// A witness that saw an earlier checkpoint can tell that the log only grew.
func TestWitnessesFollowTheLog(t *testing.T) {
	k := agentkeystest.New(t)
	k.Party(t)
	k.Head(t)
	v := newVerifier(t, k)
	first, err := k.Client.AuditCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := v.tree(t, first)
	for range 5 {
		k.Party(t)
	}
	k.Head(t)
	p, err := k.Client.AuditConsistency(t.Context(), old.N, 0)
	if err != nil {
		t.Fatal(err)
	}
	now := v.tree(t, p.Checkpoint)
	if p.From != old.N || p.To != now.N || now.N != 12 || p.Origin != v.origin {
		t.Errorf("proof %+v", p)
	}
	if err := tlog.CheckTree(fromHex(t, p.Hashes...), now.N, now.Hash, old.N, old.Hash); err != nil {
		t.Error(err)
	}
	old.Hash[0] ^= 1
	if tlog.CheckTree(fromHex(t, p.Hashes...), now.N, now.Hash, old.N, old.Hash) == nil {
		t.Error("the proof holds for another log")
	}
	if p, err = k.Client.AuditConsistency(t.Context(), 2, 5); err != nil || p.To != 5 || len(p.Hashes) == 0 {
		t.Errorf("between two earlier sizes: %+v, %v", p, err)
	}
	for _, query := range []string{"", "?from=", "?from=0", "?from=-1", "?from=13", "?from=3&to=2", "?from=1&to=13", "?from=01", "?from=+1", "?from=1e0", "?from=1&from=1",
		"?to=3", "?from=1&to=0", "?from=9223372036854775808", "?from=%zz", "?from=1;to=2", "?from=1&To=2", "?from=1&size=2"} {
		a := send(t, k, "GET", api.PathAuditConsistency+query, "")
		if code := a.json(t)["code"]; a.StatusCode != 400 || code != "bad_request" && code != "unknown_field" {
			t.Errorf("%s: %d %s", query, a.StatusCode, a.body)
		}
	}
}

func TestCheckpointIsPublicAndCached(t *testing.T) {
	k := agentkeystest.New(t)
	k.Party(t)
	k.Head(t)
	a := send(t, k, "GET", api.PathAuditCheckpoint, "")
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/plain; charset=utf-8" || a.Header.Get("Cache-Control") != "public, max-age=5" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	newVerifier(t, k).tree(t, string(a.body))
	again := send(t, k, "GET", api.PathAuditCheckpoint, "", "If-None-Match", a.Header.Get("ETag"))
	if again.StatusCode != 304 || len(again.body) != 0 {
		t.Errorf("with the ETag: %d %q", again.StatusCode, again.body)
	}
	k.Party(t)
	k.Head(t)
	if moved := send(t, k, "GET", api.PathAuditCheckpoint, "", "If-None-Match", a.Header.Get("ETag")); moved.StatusCode != 200 {
		t.Errorf("with the ETag of an earlier head: %d", moved.StatusCode)
	}
	send(t, k, "GET", api.PathAuditCheckpoint+"?size=1", "").refused(t, 400, "unknown_field")
	if head := send(t, k, "HEAD", api.PathAuditCheckpoint, ""); head.StatusCode != 200 || len(head.body) != 0 {
		t.Errorf("HEAD: %d %q", head.StatusCode, head.body)
	}
	before := len(records(t, k))
	send(t, k, "GET", api.PathAuditCheckpoint, "")
	send(t, k, "GET", api.PathAuditProof+records(t, k)[0].ID, "")
	if n := len(records(t, k)); n != before {
		t.Errorf("public reads, which anybody may repeat, added %d records", n-before)
	}
}

// Until a record has its place there is no proof of it, and until there is a record no
// head: both are said, with when to come again.
func TestProofsOfWhatHasNoPlaceYet(t *testing.T) {
	k := agentkeystest.New(t)
	k.Stop() // nothing gives records their place
	p := k.Party(t)
	r := records(t, k)[0]
	for _, path := range []string{api.PathAuditCheckpoint, api.PathAuditConsistency + "?from=1", api.PathAuditProof + r.ID} {
		a := send(t, k, "GET", path, "")
		a.refused(t, 409, "audit_pending")
		if a.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: Retry-After %q", path, a.Header.Get("Retry-After"))
		}
	}
	k.Head(t)
	if _, err := k.Client.AuditProof(t.Context(), r.ID); err != nil {
		t.Error(err)
	}
	entries(t, k, p, "")
	send(t, k, "GET", api.PathAuditProof+records(t, k)[0].ID, "").refused(t, 409, "audit_pending")
}

// A proof tells of a record that there is one, and no more than the hash of its leaf.
func TestProofsTellNothingOfTheRecord(t *testing.T) {
	k := agentkeystest.New(t)
	p := k.Party(t)
	k.Head(t)
	a := send(t, k, "GET", api.PathAuditProof+records(t, k)[0].ID, "")
	members := a.json(t)
	if len(members) != 6 {
		t.Errorf("members %v", members)
	}
	for _, secret := range []string{tagOf(p), p.Session.OmniAccount, "127.0.0.1\"", "auth.wallet", "signed_in"} {
		if strings.Contains(string(a.body), secret) {
			t.Errorf("the proof tells %q: %s", secret, a.body)
		}
	}
}

func TestUnknownRecordsHaveNoProof(t *testing.T) {
	k := agentkeystest.New(t)
	k.Party(t)
	k.Head(t)
	id := records(t, k)[0].ID
	for _, entry := range []string{"none", strings.ToLower(id), id + "x", id[:25], "1", "0", "-1", "%00", id + "%00", id + "%0a", "'%20OR%201=1--", "ü", "%ff", "a%2fb",
		strings.Repeat("A", 8000)} {
		a := send(t, k, "GET", api.PathAuditProof+entry, "")
		a.refused(t, 404, "record_unknown")
		if strings.Contains(fmt.Sprint(a.json(t)["detail"]), "OR") {
			t.Errorf("the refusal echoes what was sent: %s", a.body)
		}
	}
	for _, entry := range []string{"", id + "/", "../entries", "..", "..%2f..%2fhealthz", "%2e%2e", id + "%2f", "/" + id, "." + "/" + id} {
		send(t, k, "GET", api.PathAuditProof+entry, "").refused(t, 404, "not_found")
	}
	send(t, k, "GET", api.PathAuditProof+id+"?size=1", "").refused(t, 400, "unknown_field")
	a := send(t, k, "POST", api.PathAuditProof+id, "")
	a.refused(t, 405, "method_not_allowed")
	if a.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("Allow %q", a.Header.Get("Allow"))
	}
	send(t, k, "POST", api.PathAuditProof+id+"/x", "").refused(t, 404, "not_found")
}

// Of a record that was changed behind our back, or a tree that was, no proof is given.
func TestTamperedLogsHaveNoProof(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	k := agentkeystest.NewAt(t, path)
	k.Party(t)
	k.Party(t)
	k.Head(t)
	id := records(t, k)[0].ID
	k.Stop()
	direct := execDirectly(t, path)
	direct("DROP TRIGGER audit_records_no_update")
	direct("UPDATE audit_records SET wallet = '0xother' WHERE id = '" + id + "'")
	if a := send(t, k, "GET", api.PathAuditProof+id, ""); a.StatusCode < 500 || strings.Contains(string(a.body), "leaf_hash") {
		t.Errorf("a record that was changed: %d %s", a.StatusCode, a.body)
	}
	direct("UPDATE audit_tiles SET hashes = zeroblob(length(hashes))")
	for _, path := range []string{api.PathAuditProof + records(t, k)[1].ID, api.PathAuditConsistency + "?from=1"} {
		if a := send(t, k, "GET", path, ""); a.StatusCode < 500 {
			t.Errorf("of a tree that was changed, %s: %d %s", path, a.StatusCode, a.body)
		}
	}
	direct("UPDATE audit_head SET note = replace(note, char(10) || '4' || char(10), char(10) || '3' || char(10))")
	if a := send(t, k, "GET", api.PathAuditCheckpoint, ""); a.StatusCode < 500 {
		t.Errorf("a head that nobody signed: %d %s", a.StatusCode, a.body)
	}
}
