package federation

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// A report says by which calls the proof got its sessions, or was refused one, and reads
// back as that.
func TestReportNamesItsExchanges(t *testing.T) {
	a := hardenedAccount(t)
	r := prove(t, a.proof(t))
	var out bytes.Buffer
	if err := r.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	got, err := ReadProofRecord(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, ProofRecord{r.StartedAt, r.FinishedAt, r.Config, r.Exchanges}) {
		t.Errorf("read %+v of\n%s", got, out.String())
	}
	if len(got.Exchanges) != 3 {
		t.Fatalf("got %+v, want two tenants and the control", got.Exchanges)
	}
	ids := map[string]bool{}
	for n, e := range got.Exchanges[:2] {
		tenant := r.Tenants[n]
		if e.SessionName != "proof-"+tenant.Name || e.Tag != tenant.Tag || e.Subject != "agentkeys:agent:"+tenant.Tag || e.Answer != Allowed || e.At.IsZero() || e.RequestID == "" {
			t.Errorf("tenant %+v: got %+v", tenant, e)
		}
		ids[e.RequestID] = true
	}
	c := got.Exchanges[2]
	if c.SessionName != "proof-untagged" || c.Tag != "" || c.Subject != "agentkeys:agent:"+r.Tenants[0].Tag || c.Answer != Denied || c.RequestID == "" || ids[c.RequestID] || len(ids) != 2 {
		t.Errorf("control: got %+v beside %v", c, ids)
	}
}

// testRecord is a report with one exchange.
func testRecord() ProofRecord {
	at := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	return ProofRecord{StartedAt: at, FinishedAt: at.Add(time.Minute), Exchanges: []Exchange{{At: at, SessionName: "proof-a",
		Subject: "agentkeys:agent:a", Tag: "a", Answer: Allowed, RequestID: "01234567-89ab-cdef-0123-456789abcdef"}},
		Config: Config{Issuer: "https://broker.example.com", Account: "111122223333", Region: "us-east-1", Role: "r", Bucket: "bucket", Prefix: "bots",
			TagKey: DefaultTagKey, Audience: "sts.amazonaws.com"}}
}

// What no proof makes is not taken for a report of one.
func TestReadProofRecordRefuses(t *testing.T) {
	for want, change := range map[string]func(*ProofRecord){
		"":                                       func(*ProofRecord) {},
		"want its exchanges at STS":              func(r *ProofRecord) { r.Exchanges = nil },
		"want at most 3 exchanges, got 4":        func(r *ProofRecord) { e := r.Exchanges[0]; r.Exchanges = []Exchange{e, e, e, e} },
		"want when it started and finished":      func(r *ProofRecord) { r.FinishedAt = r.StartedAt.Add(-time.Second) },
		"account":                                func(r *ProofRecord) { r.Config.Account = "1" },
		`begins with proof-, got "DAEMON@GRANT"`: func(r *ProofRecord) { r.Exchanges[0].SessionName = "DAEMON@GRANT" },
		"want a time of the proof, got 2030-01-02T11:59:59Z": func(r *ProofRecord) { r.Exchanges[0].At = r.StartedAt.Add(-time.Second) },
		"want a time of the proof, got 2030-01-02T12:01:01Z": func(r *ProofRecord) { r.Exchanges[0].At = r.FinishedAt.Add(time.Second) },
		"want the answer":   func(r *ProofRecord) { r.Exchanges[0].Answer = "yes" },
		"id of the request": func(r *ProofRecord) { r.Exchanges[0].RequestID = "anything" },
	} {
		r := testRecord()
		change(&r)
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ReadProofRecord(text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := ReadProofRecord([]byte("[]")); err == nil {
		t.Error("a list was taken for a report")
	}
}

// What is read is a proof's, and reads back the same.
func FuzzReadProofRecord(f *testing.F) {
	text, err := json.Marshal(testRecord())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"exchanges":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ReadProofRecord(data)
		if err != nil {
			return
		}
		if len(r.Exchanges) > 3 {
			t.Errorf("took %d exchanges", len(r.Exchanges))
		}
		for _, e := range r.Exchanges {
			if !strings.HasPrefix(e.SessionName, "proof-") {
				t.Errorf("took %+v", e)
			}
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ReadProofRecord(again); err != nil || len(back.Exchanges) != len(r.Exchanges) || !back.StartedAt.Equal(r.StartedAt) {
			t.Errorf("want %+v, got %+v: %v", r, back, err)
		}
	})
}
