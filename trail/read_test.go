package trail_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"agentkeys/trail"
)

const sample = "testdata/records.json"

func all(*trail.Event) bool { return true }

// The records of the AWS pages' form, with ids that are nobody's.
func TestPublishedForm(t *testing.T) {
	got, err := trail.Read(all, sample)
	if err != nil {
		t.Fatal(err)
	}
	const (
		daemon   = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"
		subject  = "agentkeys:agent:" + daemon
		provider = "arn:aws:iam::123456789012:oidc-provider/broker.example.com"
		role     = "arn:aws:iam::123456789012:role/agentkeys-data-role"
		name     = daemon + "@grn-ABCDEFGHIJKLMNOP"
	)
	at := func(clock string) time.Time {
		tm, err := time.Parse(time.RFC3339, "2026-12-07T"+clock+"Z")
		if err != nil {
			t.Fatal(err)
		}
		return tm
	}
	web := trail.Caller{Type: "WebIdentityUser", UserName: subject, IdentityProvider: provider}
	want := []trail.Event{
		{ID: "aEXAMPLE-ee29-4ac0-a0ed-3f5c5EXAMPLE", RequestID: "aEXAMPLE-0b26-40df-8973-c7012EXAMPLE", Source: "sts.amazonaws.com", Name: "AssumeRoleWithWebIdentity", Time: at("15:41:37"), File: sample, Caller: web,
			Assumed: &trail.Assumption{Role: role, SessionName: name, SourceIdentity: "MyWebIdentityUser", AccessKeyID: "ASIAIOSFODNN7EXAMPLE",
				Tags: map[string]string{"agentkeys_user_wallet": "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"}, Subject: subject, Provider: provider}},
		{ID: "bEXAMPLE-ee29-4ac0-a0ed-3f5c5EXAMPLE", RequestID: "HQJGBHZKEXAMPLE7", Source: "s3.amazonaws.com", Name: "GetObject", Time: at("15:42:10"), File: sample, Data: true,
			Caller: trail.Caller{Type: "AssumedRole", ARN: "arn:aws:sts::123456789012:assumed-role/agentkeys-data-role/" + name,
				AccessKeyID: "ASIAIOSFODNN7EXAMPLE", Role: role, Created: at("15:41:37")}},
		{ID: "cEXAMPLE-ee29-4ac0-a0ed-3f5c5EXAMPLE", RequestID: "cEXAMPLE-0b26-40df-8973-c7012EXAMPLE", Source: "sts.amazonaws.com", Name: "AssumeRoleWithWebIdentity", Time: at("15:43:08"), File: sample,
			ErrorCode: "AccessDenied", Caller: web, Assumed: &trail.Assumption{Role: role, SessionName: "refused", Subject: subject, Provider: provider}},
		{ID: "dEXAMPLE-657a-4e17-831d-b7743EXAMPLE", Source: "ecr.amazonaws.com", Name: "PolicyExecutionEvent", Time: at("15:44:13"), File: sample},
	}
	if diff := cmp.Diff(want, got.Kept); diff != "" {
		t.Errorf("want and got:\n%s", diff)
	}
	if got.Files != 1 || got.Events != 4 || got.Data != 1 || !got.First.Equal(at("15:41:37")) || !got.Last.Equal(at("15:44:13")) || !got.Delivered.IsZero() {
		t.Errorf("got %+v", got)
	}
}

// A delivered tree is read with all that is below it: packed, and under names that
// tell when it was delivered. Digest files are passed over.
func TestFolders(t *testing.T) {
	data := readFile(t, sample)
	dir := t.TempDir()
	day := filepath.Join(dir, "AWSLogs/123456789012/CloudTrail/us-east-2/2026/12/07")
	digests := filepath.Join(dir, "AWSLogs/123456789012/CloudTrail-Digest/us-east-2/2026/12/07")
	for path, contents := range map[string][]byte{
		filepath.Join(day, "123456789012_CloudTrail_us-east-2_20261207T1550Z_Mu0KsOhtH1ar15ZZ.json.gz"):                  pack(t, data),
		filepath.Join(day, "123456789012_CloudTrail_us-east-2_20261207T1545Z_Mu0KsOhtH1ar15ZY.json.gz"):                  pack(t, []byte(`{"Records":[]}`)),
		filepath.Join(digests, "123456789012_CloudTrail-Digest_us-east-2_acme-trail_us-east-2_20261207T160000Z.json.gz"): pack(t, []byte(`{"logFiles":[]}`)),
		filepath.Join(digests, "123456789012_CloudTrail-Insight_us-east-2_20261207T1600Z_Mu0KsOhtH1ar15ZY.json.gz"):      pack(t, []byte(`{"Records":[{}]}`)),
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, contents, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := trail.Read(all, dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.Files != 2 || got.Events != 4 || got.Delivered.Format(time.RFC3339) != "2026-12-07T15:50:00Z" {
		t.Errorf("got %+v", got)
	}
	s := trail.Scope{Late: 15 * time.Minute}
	if w := s.Window(got); w.To != got.Delivered || !w.Settled.Equal(got.Delivered.Add(-15*time.Minute)) || !w.From.Equal(got.First) {
		t.Errorf("got %+v", w)
	}
}

// found is what "aws cloudtrail lookup-events" prints of the sample.
func found(t *testing.T, change func(map[string]any)) []byte {
	t.Helper()
	var file struct{ Records []map[string]any }
	if err := json.Unmarshal(readFile(t, sample), &file); err != nil {
		t.Fatal(err)
	}
	var events []map[string]any
	for _, r := range file.Records {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, map[string]any{"EventId": r["eventID"], "EventName": r["eventName"], "ReadOnly": "true", "CloudTrailEvent": string(text)})
	}
	list := map[string]any{"Events": events}
	if change != nil {
		change(list)
	}
	data, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestLookupEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	if err := os.WriteFile(path, found(t, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := trail.Read(all, sample, path)
	if err != nil {
		t.Fatal(err)
	}
	// The events are the same, though their text is not: a map's members are sorted.
	if got.Files != 2 || got.Events != 8 || len(got.Kept) != 4 || len(got.Altered) != 0 {
		t.Errorf("got %d files, %d events, %d kept, %d altered", got.Files, got.Events, len(got.Kept), len(got.Altered))
	}
}

// What is no file of CloudTrail's is refused, and named.
func TestRefusedFiles(t *testing.T) {
	event := `{"eventVersion":"1.11","eventID":"e","eventTime":"2026-12-07T15:41:37Z","eventSource":"s","eventName":"n","userIdentity":{}}`
	with := func(old, new string) string {
		if !strings.Contains(event, old) {
			t.Fatalf("no %s in the event", old)
		}
		return `{"Records":[` + strings.Replace(event, old, new, 1) + `]}`
	}
	for name, test := range map[string]struct{ file, contents, want string }{
		"good":              {"a.json", `{"Records":[` + event + `]}`, ""},
		"unknown member":    {"a.json", `{"more":[1,{"a":2}],"Records":[` + event + `]}`, ""},
		"empty":             {"a.json", ``, "EOF"},
		"a text":            {"a.txt", `{"Records":[]}`, "want a file that ends in .json or .json.gz"},
		"without a name":    {".DS_Store", `{"Records":[]}`, "want a file that ends in .json or .json.gz"},
		"not packed":        {"a.json.gz", `{"Records":[]}`, "gzip"},
		"packed unnamed":    {"a.json", string(pack(t, []byte(`{"Records":[]}`))), "invalid character"},
		"cut off":           {"a.json.gz", string(pack(t, []byte(`{"Records":[]}`))[:20]), "unexpected EOF"},
		"an array":          {"a.json", `[` + event + `]`, "want {"},
		"neither":           {"a.json", `{"logFiles":[]}`, "want Records or Events, got neither"},
		"both":              {"a.json", `{"Records":[],"Events":[]}`, "got Records and Events"},
		"records twice":     {"a.json", `{"Records":[],"Records":[]}`, "got Records and Records"},
		"no array":          {"a.json", `{"Records":{}}`, "Records: want ["},
		"other case":        {"a.json", `{"records":[]}`, "want Records or Events, got neither"},
		"more behind":       {"a.json", `{"Records":[]}{}`, "want one JSON object, got more"},
		"goes on":           {"a.json", `{"Events":[],"NextToken":"x"}`, "goes on"},
		"goes on, no more":  {"a.json", `{"Events":[],"NextToken":null}`, ""},
		"no event":          {"a.json", `{"Events":[{"EventId":"e"}]}`, "Events[0]"},
		"another event":     {"a.json", `{"Events":[{"EventId":"f","CloudTrailEvent":` + quoted(event) + `}]}`, `want the event "f", got "e"`},
		"major version":     {"a.json", with("1.11", "2.0"), "Records[0]: CloudTrail event: eventVersion: want 1"},
		"version that is 1": {"a.json", with("1.11", "11.1"), "eventVersion: want 1"},
		"no id":             {"a.json", with(`"eventID":"e",`, ""), "eventID is missing"},
		"no source":         {"a.json", with(`"eventSource":"s",`, ""), "eventSource is missing"},
		"no event name":     {"a.json", with(`"eventName":"n",`, ""), "eventName is missing"},
		"no identity":       {"a.json", with(`,"userIdentity":{}`, ""), "userIdentity is missing"},
		"time":              {"a.json", with("2026-12-07T15:41:37Z", "yesterday"), "eventTime: want a time"},
		"creation date":     {"a.json", with(`"userIdentity":{}`, `"userIdentity":{"type":"AssumedRole","sessionContext":{"attributes":{"creationDate":"x"}}}`), "creationDate: want a time"},
		"parameters": {"a.json", with(`"eventSource":"s","eventName":"n"`, `"eventSource":"sts.amazonaws.com","eventName":"AssumeRoleWithWebIdentity","requestParameters":"x"`),
			"AssumeRoleWithWebIdentity: requestParameters"},
		"tags": {"a.json", with(`"eventSource":"s","eventName":"n"`, `"eventSource":"sts.amazonaws.com","eventName":"AssumeRoleWithWebIdentity","requestParameters":{"principalTags":["x"]}`),
			"principalTags"},
		"too long": {"a.json", with(`"s"`, `"`+strings.Repeat("s", 4<<20)+`"`), "want at most 4194304 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, test.file), []byte(test.contents), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := trail.Read(all, dir)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), filepath.Join(dir, test.file)) {
				t.Errorf("want an error with %q and the file's name, got %v", test.want, err)
			}
		})
	}
	if _, err := trail.Read(all, filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("want no such file, got %v", err)
	}
	dir := t.TempDir()
	if err := os.Symlink("/etc/hosts", filepath.Join(dir, "a.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := trail.Read(all, dir); err == nil {
		t.Error("want a link in a folder refused")
	}
}

func quoted(text string) string {
	data, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string always marshals
	}
	return string(data)
}

// What is printed of a file cannot command a terminal, nor pass for another line.
func TestTextIsPrintable(t *testing.T) {
	r := &trail.Report{Verdict: trail.Findings, Findings: []trail.Finding{{Code: trail.ForeignUse, Severity: trail.Critical,
		SessionName: "a\x1b[2J\nverdict    CLEAN", Expected: "x", Found: "y"}}}
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsRune(b.String(), '\x1b') || strings.Contains(b.String(), "\nverdict    CLEAN") {
		t.Errorf("got %q", b.String())
	}
	if !strings.HasSuffix(b.String(), "\nverdict    FINDINGS: 1\n") {
		t.Errorf("got %q", b.String())
	}
	var back trail.Report
	var js bytes.Buffer
	if err := errors.Join(r.WriteJSON(&js), json.Unmarshal(js.Bytes(), &back)); err != nil {
		t.Fatal(err)
	}
	if back.Findings[0] != r.Findings[0] {
		t.Errorf("want %+v, got %+v", r.Findings[0], back.Findings[0])
	}
}

// A record that is read has what makes it one, and white space makes no other of it.
func FuzzParseEvent(f *testing.F) {
	var file struct{ Records []json.RawMessage }
	data, err := os.ReadFile(sample)
	if err == nil {
		err = json.Unmarshal(data, &file)
	}
	if err != nil || len(file.Records) == 0 {
		f.Fatalf("no records in %s (%v)", sample, err)
	}
	for _, r := range file.Records {
		f.Add([]byte(r))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := trail.ParseEvent(data)
		if err != nil {
			return
		}
		if e.ID == "" || e.Name == "" || e.Source == "" || e.Time.IsZero() && !bytes.Contains(data, []byte("0001-01-01T00:00:00")) {
			t.Errorf("got %+v", e)
		}
		var spaced bytes.Buffer
		if err := json.Indent(&spaced, data, "", " "); err != nil {
			t.Fatal(err)
		}
		if spaced.Len() > 4<<20 {
			return
		}
		again, err := trail.ParseEvent(spaced.Bytes())
		if err != nil || !cmp.Equal(e, again) {
			t.Errorf("want %+v, got %+v (%v)", e, again, err)
		}
	})
}
