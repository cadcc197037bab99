package anchor

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"agentkeys/audit"
)

// full is a record in which every member has a value of its own. A member that
// audit gets later has one too.
func full(t *testing.T) audit.Record {
	t.Helper()
	var r audit.Record
	v := reflect.ValueOf(&r).Elem()
	for i := range v.NumField() {
		switch field := v.Field(i).Addr().Interface().(type) {
		case *string:
			*field = strings.ToLower(v.Type().Field(i).Name) + ` <&> "é" \ 名`
		case *time.Time:
			*field = noon
		default:
			t.Fatalf("member %s of a record is a %T, and anchor knows texts and times", v.Type().Field(i).Name, field)
		}
	}
	return r
}

func mustEncode(t testing.TB, r audit.Record) string {
	t.Helper()
	text, err := encode(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func readAll(r io.Reader) (records []audit.Record, err error) {
	for record, err := range ReadFile(r) {
		if err != nil {
			return records, err
		}
		records = append(records, record)
	}
	return records, nil
}

// Files are read for years, so the form is fixed.
func TestForm(t *testing.T) {
	r := audit.Record{
		ID: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Time: time.Date(2030, 1, 2, 13, 4, 5, 67_890_123, time.FixedZone("", 3600)),
		Action: "mint.aws_creds", Outcome: "refused", Reason: "grant_required", IdentityType: "evm", IdentityValue: "0x71c7",
		OmniAccount: "9b2c", Wallet: "0x71c7", KeyID: "ak-oidc-n4bQ", TokenID: "jti", Source: "2001:db8::1", RequestID: "req <1>",
	}
	want := `{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","time":"2030-01-02T12:04:05.067Z","action":"mint.aws_creds","outcome":"refused",` +
		`"reason":"grant_required","identity_type":"evm","identity_value":"0x71c7","omni_account":"9b2c","wallet":"0x71c7",` +
		`"key_id":"ak-oidc-n4bQ","token_id":"jti","source":"2001:db8::1","request_id":"req <1>"}` + "\n"
	if got := mustEncode(t, r); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	least := audit.Record{ID: "1", Time: noon, Action: "a", Outcome: "b", RequestID: "c"}
	want = `{"id":"1","time":"2030-01-02T12:00:00.000Z","action":"a","outcome":"b","request_id":"c"}` + "\n"
	if got := mustEncode(t, least); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

func TestEveryMemberIsReadBack(t *testing.T) {
	want := full(t)
	got, err := readAll(strings.NewReader(mustEncode(t, want)))
	if diff := cmp.Diff([]audit.Record{want}, got); err != nil || diff != "" {
		t.Errorf("error %v, records differ (-want +got):\n%s", err, diff)
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*audit.Record)
		want   string
	}{
		"no ID":           {func(r *audit.Record) { r.ID = "" }, "id is missing"},
		"no action":       {func(r *audit.Record) { r.Action = "" }, "action is missing"},
		"no outcome":      {func(r *audit.Record) { r.Outcome = "" }, "outcome is missing"},
		"no request id":   {func(r *audit.Record) { r.RequestID = "" }, "request_id is missing"},
		"no time":         {func(r *audit.Record) { r.Time = time.Time{} }, "time: want RFC 3339"},
		"time before":     {func(r *audit.Record) { r.Time = time.Unix(-1, 0) }, "from 1970 to 9999"},
		"time beyond":     {func(r *audit.Record) { r.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "from 1970 to 9999"},
		"not UTF-8":       {func(r *audit.Record) { r.Source = "\xff" }, "want UTF-8 in every member"},
		"too long":        {func(r *audit.Record) { r.Reason = strings.Repeat("x", maxLine) }, "want a line of at most 16384 bytes"},
		"a little longer": {func(r *audit.Record) { r.Reason += strings.Repeat("x", maxLine-len(mustEncode(t, *r))+1) }, "got 16385"},
	} {
		r := full(t)
		tt.change(&r)
		if _, err := encode(r); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: encode = %v, want %q", name, err, tt.want)
		}
	}
	r := full(t)
	r.Reason += strings.Repeat("x", maxLine-len(mustEncode(t, r)))
	if got, err := readAll(strings.NewReader(mustEncode(t, r))); err != nil || len(got) != 1 {
		t.Errorf("the longest line gives %d records and %v, want it read", len(got), err)
	}
}

func TestReadFileIsStrict(t *testing.T) {
	good := mustEncode(t, full(t))
	least := `{"id":"1","time":"2030-01-02T12:00:00.000Z","action":"a","outcome":"b","request_id":"c"}`
	if records, err := readAll(strings.NewReader(good + least + "\n")); err != nil || len(records) != 2 {
		t.Fatalf("two good lines give %d records and %v", len(records), err)
	}
	change := func(before, after string) string { return strings.Replace(least, before, after, 1) + "\n" }
	for name, tt := range map[string]struct{ line, want string }{
		"cut off":              {least, "it is cut off: want a line break at its end"},
		"cut in the middle":    {least[:20], "it is cut off"},
		"empty":                {"\n", "want a JSON object"},
		"not JSON":             {"hello\n", "want a JSON object"},
		"null":                 {"null\n", "time: want RFC 3339"},
		"an array":             {"[" + least + "]\n", "want a JSON object"},
		"two in one line":      {least + least + "\n", "want a JSON object"},
		"zeros":                {"\x00\x00\x00\n", "want a JSON object"},
		"a number":             {change(`"1"`, `1`), "want a JSON object of strings"},
		"a space":              {change(`,`, `, `), "it is not as AgentKeys writes it"},
		"a carriage return":    {change(`}`, "}\r"), "it is not as AgentKeys writes it"},
		"another escape":       {change(`"a"`, `"\u0061"`), "it is not as AgentKeys writes it"},
		"another case":         {change(`"action"`, `"Action"`), "it is not as AgentKeys writes it"},
		"another order":        {change(`"outcome":"b","request_id":"c"`, `"request_id":"c","outcome":"b"`), "it is not as AgentKeys writes it"},
		"an empty member":      {change(`}`, `,"wallet":""}`), "it is not as AgentKeys writes it"},
		"an unknown member":    {change(`}`, `,"token":"x"}`), "it is not as AgentKeys writes it"},
		"a member twice":       {change(`"outcome":"b"`, `"outcome":"z","outcome":"b"`), "it is not as AgentKeys writes it"},
		"not UTF-8":            {change(`"a"`, "\"\xff\""), "it is not as AgentKeys writes it"},
		"no ID":                {change(`"id":"1",`, ``), "id is missing"},
		"no action":            {change(`"action":"a",`, ``), "action is missing"},
		"time in another zone": {change(`00.000Z`, `00.000+01:00`), "time: want RFC 3339"},
		"time in seconds":      {change(`00.000Z`, `00Z`), "time: want RFC 3339"},
		"time with a comma":    {change(`00.000Z`, `00,000Z`), "it is not as AgentKeys writes it"},
		"time too early":       {change(`2030`, `1969`), "time: want RFC 3339"},
		"too long":             {strings.Repeat("x", maxLine) + "\n", "want a line of at most 16384 bytes, got more"},
	} {
		t.Run(name, func(t *testing.T) {
			records, err := readAll(strings.NewReader(good + tt.line + good))
			if tt.want == "it is cut off" || strings.HasPrefix(tt.want, "it is cut off:") {
				records, err = readAll(strings.NewReader(good + tt.line))
			}
			if len(records) != 1 || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %d records and %v, want 1 and %q", len(records), err, tt.want)
			}
			if where := "line 2, at byte " + itoa(len(good)); err != nil && !strings.Contains(err.Error(), where) {
				t.Errorf("the error %q does not say %q", err, where)
			}
		})
	}
}

func TestReadFilePassesErrorsOn(t *testing.T) {
	good := mustEncode(t, full(t))
	broken := errors.New("broken")
	records, err := readAll(io.MultiReader(strings.NewReader(good+good[:5]), iotest.ErrReader(broken)))
	if len(records) != 1 || !errors.Is(err, broken) {
		t.Errorf("got %d records and %v, want 1 and the reader's error", len(records), err)
	}
	for range ReadFile(strings.NewReader(good + good)) {
		break // and nothing more is yielded, which would panic
	}
}

func FuzzReadFile(f *testing.F) {
	good, err := encode(audit.Record{ID: "1", Time: noon, Action: "a", Outcome: "b", RequestID: "c", Reason: "é<\\\"\u2028"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(append(good, good...))
	f.Add(append(good, good[:9]...))
	f.Add([]byte(`{"id":"1","time":"2030-01-02T12:00:00.000Z","action":"a","outcome":"b","request_id":"\ud800"}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var again []byte
		records, err := readAll(bytes.NewReader(data))
		for _, r := range records {
			text, err := encode(r)
			if err != nil {
				t.Fatalf("%+v was read and cannot be written: %v", r, err)
			}
			again = append(again, text...)
		}
		if !bytes.HasPrefix(data, again) || err == nil && len(again) != len(data) {
			t.Fatalf("%q was read as what is written as %q (error %v)", data, again, err)
		}
	})
}

// What is put is read back the same, or refused; never is it two lines.
func FuzzRecord(f *testing.F) {
	f.Add("1", int64(1), "a", "b", "reason\n{}", "c")
	f.Add("\u2028", int64(1e12), "\xff", "\x00", "\ufffd", "\\ufffd")
	f.Fuzz(func(t *testing.T, id string, millis int64, action, outcome, reason, requestID string) {
		r := audit.Record{ID: id, Time: time.UnixMilli(millis).UTC(), Action: action, Outcome: outcome, Reason: reason, RequestID: requestID}
		text, err := encode(r)
		if err != nil {
			return
		}
		got, err := readAll(bytes.NewReader(text))
		if err != nil || len(got) != 1 || got[0] != r {
			t.Fatalf("%+v was read back as %+v, %v", r, got, err)
		}
	})
}
