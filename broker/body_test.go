package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"agentkeys/api"
)

const mintBody = `{"request_id":"call-1","issued_at":"2026-03-01T12:00:00Z",` +
	`"intent":{"agent_id":"a","service":"s3","scope_path":"p","grant_id":"grn-1"},"auth":{"address":"0x","signature":"0x"}}`

const grantBody = `{"daemon_address":"0x","service":"s3","scope_path":"/","expires_at":1,"max_uses":1,"actions":["get"]}`

func TestBodiesAreStrictAtEveryDepth(t *testing.T) {
	type kind struct {
		good   string
		decode func(string) error
	}
	mint := kind{mintBody, func(body string) error { _, err := decodeBody[api.MintAWSRequest]([]byte(body)); return err }}
	grant := kind{grantBody, func(body string) error { _, err := decodeBody[api.GrantCreateRequest]([]byte(body)); return err }}
	for _, tc := range []struct {
		name         string
		kind         kind
		from, to     string
		code, detail string
	}{
		{"unknown", mint, `"service"`, `"servise"`, "unknown_field", `"intent.servise"`},
		{"more than is known", mint, `"service"`, `"grant":1,"service"`, "unknown_field", `"intent.grant"`},
		{"other case", mint, `"address"`, `"Address"`, "unknown_field", `"auth.Address"`},
		{"other case as well", mint, `"address"`, `"Address":"","address"`, "unknown_field", `"auth.Address"`},
		{"a letter that folds to s", mint, `"service"`, `"ſervice"`, "unknown_field", `"intent.ſervice"`},
		{"nested in the outer place", mint, `"intent"`, `"address":"","intent"`, "unknown_field", `"address"`},
		{"outer in the nested place", mint, `"agent_id"`, `"intent":{},"agent_id"`, "unknown_field", `"intent.intent"`},
		{"path as a name", mint, `"agent_id"`, `"intent.agent_id":"","agent_id"`, "unknown_field", `"intent.intent.agent_id"`},
		{"empty name", mint, `"agent_id"`, `"":"","agent_id"`, "unknown_field", `"intent."`},
		{"twice", mint, `"agent_id"`, `"agent_id":"","agent_id"`, "bad_request", `"intent.agent_id" twice`},
		{"twice, once escaped", mint, `"agent_id"`, `"agent\u005fid":"","agent_id"`, "bad_request", `"intent.agent_id" twice`},
		{"object twice", mint, `"intent"`, `"intent":{"agent_id":"","service":"","scope_path":""},"intent"`, "bad_request", `"intent" twice`},
		{"missing", mint, `"agent_id":"a",`, ``, "bad_request", `lacks the member "intent.agent_id"`},
		{"object missing", mint, `,"auth":{"address":"0x","signature":"0x"}`, ``, "bad_request", `lacks the member "auth"`},
		{"object empty", mint, `{"address":"0x","signature":"0x"}`, `{}`, "bad_request", `lacks the member "auth.address"`},
		{"timestamp missing", mint, `"issued_at":"2026-03-01T12:00:00Z",`, ``, "bad_request", `lacks the member "issued_at"`},
		{"null", mint, `"agent_id":"a"`, `"agent_id":null`, "bad_request", `"intent.agent_id" is null`},
		{"null for an optional one", mint, `"grn-1"`, `null`, "bad_request", `"intent.grant_id" is null`},
		{"null for an object", mint, `{"address":"0x","signature":"0x"}`, `null`, "bad_request", `"auth" is null`},
		{"null for a timestamp", mint, `"2026-03-01T12:00:00Z"`, `null`, "bad_request", `"issued_at" is null`},
		{"optional and empty", mint, `"grn-1"`, `""`, "bad_request", `"intent.grant_id" is empty`},
		{"array for an object", mint, `{"address":"0x","signature":"0x"}`, `[]`, "bad_request", "auth: want an object"},
		{"string for an object", mint, `{"address":"0x","signature":"0x"}`, `"0x"`, "bad_request", "auth: want an object"},
		{"object for a string", mint, `"agent_id":"a"`, `"agent_id":{"a":1}`, "bad_request", "intent.agent_id: want a string, got object"},
		{"number for a string", mint, `"agent_id":"a"`, `"agent_id":7777`, "bad_request", "intent.agent_id: want a string, got number"},
		{"no timestamp", mint, `2026-03-01T`, `2026-02-30T`, "bad_request", "issued_at: want RFC 3339"},
		{"timestamp with a fraction", mint, `"2026-03-01T12:00:00Z"`, `1772366400.5`, "bad_request", "issued_at: want RFC 3339"},
		{"half of a surrogate pair", mint, `"agent_id":"a"`, `"agent_id":"\ud83d"`, "bad_request", "surrogate"},
		{"surrogates the wrong way round", mint, `"agent_id":"a"`, `"agent_id":"\udd11\ud83d"`, "bad_request", "surrogate"},
		{"half of a pair in the signature", mint, `"signature":"0x"`, `"signature":"\ud83d\u0041"`, "bad_request", "surrogate"},

		{"max_uses missing", grant, `"max_uses":1,`, ``, "bad_request", `lacks the member "max_uses"`},
		{"max_uses null", grant, `"max_uses":1`, `"max_uses":null`, "bad_request", `"max_uses" is null`},
		{"max_uses misspelt", grant, `max_uses`, `max_use`, "unknown_field", `"max_use"`},
		{"max_uses beyond", grant, `"max_uses":1`, `"max_uses":9223372036854775808`, "bad_request", "max_uses: want a whole number"},
		{"max_uses with a point", grant, `"max_uses":1`, `"max_uses":1.0`, "bad_request", "max_uses: want a whole number"},
		{"max_uses as text", grant, `"max_uses":1`, `"max_uses":"1"`, "bad_request", "max_uses: want a whole number, got string"},
		{"no array", grant, `["get"]`, `"get"`, "bad_request", "actions: want an array"},
		{"empty array", grant, `["get"]`, `[ ]`, "bad_request", `"actions" is empty`},
		{"null in an array", grant, `["get"]`, `["get",null]`, "bad_request", `"actions" is null`},
		{"number in an array", grant, `["get"]`, `["get",7777]`, "bad_request", "actions: want a string, got number"},
		{"array null", grant, `["get"]`, `null`, "bad_request", `"actions" is null`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.kind.decode(tc.kind.good); err != nil {
				t.Fatalf("the good body: %v", err)
			}
			err := tc.kind.decode(strings.Replace(tc.kind.good, tc.from, tc.to, 1))
			var e *api.Error
			if !errors.As(err, &e) || string(e.Code) != tc.code || !strings.Contains(e.Detail, tc.detail) {
				t.Fatalf("got %v, want %s and %q", err, tc.code, tc.detail)
			}
			if strings.Contains(e.Detail, "7777") {
				t.Errorf("the refusal echoes a value: %s", e.Detail)
			}
		})
	}
}

func TestOptionalMembersMayBeMissing(t *testing.T) {
	mint, err := decodeBody[api.MintAWSRequest]([]byte(strings.Replace(mintBody, `,"grant_id":"grn-1"`, "", 1)))
	if err != nil || mint.Intent.GrantID != "" || mint.Intent.AgentID != "a" {
		t.Errorf("%+v, %v", mint, err)
	}
	grant, err := decodeBody[api.GrantCreateRequest]([]byte(strings.Replace(grantBody, `,"actions":["get"]`, "", 1)))
	if err != nil || grant.Actions != nil || grant.MaxUses != 1 {
		t.Errorf("%+v, %v", grant, err)
	}
}

// A pointer is the one member that null is a value of.
func TestPointersMayBeNull(t *testing.T) {
	type inner struct {
		N int64 `json:"n"`
	}
	type body struct {
		Limit *int64   `json:"limit"`
		Least *int64   `json:"least,omitempty"`
		In    *inner   `json:"in,omitempty"`
		List  []*inner `json:"list"`
	}
	got, err := decodeBody[body]([]byte(`{"limit":null,"list":[{"n":2},null]}`))
	if err != nil || got.Limit != nil || got.In != nil || len(got.List) != 2 || got.List[0].N != 2 || got.List[1] != nil {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = decodeBody[body]([]byte(`{"limit":0,"least":0,"in":{"n":1},"list":[]}`))
	if err != nil || got.Limit == nil || *got.Limit != 0 || got.Least == nil || got.In.N != 1 || got.List == nil {
		t.Errorf("%+v, %v", got, err)
	}
	for bad, detail := range map[string]string{
		`{"list":[]}`:                                 `lacks the member "limit"`,
		`{"limit":1,"list":[],"in":{}}`:               `lacks the member "in.n"`,
		`{"limit":1,"list":[{"n":1,"N":2}]}`:          `"list.N"`,
		`{"limit":1,"list":[{"n":1},{"n":1,"n":2}]}`:  `"list.n" twice`,
		`{"limit":1,"list":[],"in":{"n":null}}`:       `"in.n" is null`,
		`{"limit":[1],"list":[]}`:                     "limit: want a whole number",
		`{"limit":1,"list":[[{"n":1}]]}`:              "list: want an object",
		`{"limit":1,"list":{"n":1}}`:                  "list: want an array",
		`{"limit":1,"list":[],"in":[{"n":1,"n":{}}]}`: "in: want an object",
	} {
		if _, err := decodeBody[body]([]byte(bad)); err == nil || !strings.Contains(err.Error(), detail) {
			t.Errorf("%s: got %v, want %q", bad, err, detail)
		}
	}
}

func TestDecodeRawGivesTheBodyAsReceived(t *testing.T) {
	sent := " {\n\"request_id\" : \"\\u0061\",\t\"signature\":\"0x\"}\r\n"
	r := httptest.NewRequest(http.MethodPost, api.PathWalletVerify, strings.NewReader(sent))
	r.Header.Set("Content-Type", "application/json")
	v, body, err := decodeRaw[api.WalletVerifyRequest](&call{w: &statusWriter{ResponseWriter: httptest.NewRecorder()}, r: r})
	if err != nil || string(body) != sent || v != (api.WalletVerifyRequest{RequestID: "a", Signature: "0x"}) {
		t.Errorf("%+v, %q, %v", v, body, err)
	}
}

// FuzzDecode: what decode accepts re-encodes to JSON that means the same, for every
// body that has a request type, and is what encoding/json reads; so nothing of what
// was sent was dropped, doubled, or read into another member.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{mintBody, grantBody, `{"address":"0x","chain_id":-0}`, `{"request_id":"a\ud83d\udd11","signature":""}`, `{"grant_id":"g"}`, `{}`} {
		f.Add([]byte(seed))
		f.Add([]byte(strings.ToUpper(seed)))
	}
	for _, call := range loadCalls(f).Refused {
		f.Add([]byte(call.Body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		reencodes[api.MintAWSRequest](t, body)
		reencodes[api.GrantCreateRequest](t, body)
		reencodes[api.GrantRevokeRequest](t, body)
		reencodes[api.WalletStartRequest](t, body)
		reencodes[api.WalletVerifyRequest](t, body)
		reencodes[struct{}](t, body)
	})
}

func reencodes[T any](t *testing.T, body []byte) {
	v, err := decodeBody[T](body)
	if err != nil {
		var e *api.Error
		if !errors.As(err, &e) || e.Status != http.StatusBadRequest || !reflect.ValueOf(v).IsZero() {
			t.Errorf("%+v, %v; want nothing, and an error of status 400", v, err)
		}
		return
	}
	var library T
	if err := json.Unmarshal(body, &library); err != nil || !reflect.DeepEqual(v, library) {
		t.Errorf("%T: decode read %+v out of %s, encoding/json %+v, %v", v, v, body, library, err)
	}
	again, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	got, want := meaning(t, again), meaning(t, body)
	for _, m := range []any{got, want} {
		readTime(t, m.(map[string]any))
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%T: decode read %s out of %s", v, again, body)
	}
}

// readTime puts seconds in the place of issued_at, which may be text or a number.
func readTime(t *testing.T, body map[string]any) {
	issued, ok := body["issued_at"]
	if !ok {
		return
	}
	data, err := json.Marshal(issued)
	if err != nil {
		t.Fatal(err)
	}
	var at api.Timestamp
	if err := at.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	body["issued_at"] = at.Unix()
}

// meaning reads JSON of whole numbers into a tree, by encoding/json alone.
func meaning(t testing.TB, data []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return whole(t, v)
}

func whole(t testing.TB, v any) any {
	switch v := v.(type) {
	case json.Number:
		return atoi(t, v)
	case map[string]any:
		for name, member := range v {
			v[name] = whole(t, member)
		}
	case []any:
		for i, element := range v {
			v[i] = whole(t, element)
		}
	}
	return v
}

// respaced returns JSON with other white space.
func respaced(t testing.TB, data []byte) []byte {
	t.Helper()
	var spaced bytes.Buffer
	if err := json.Indent(&spaced, data, "\r\n", "\t "); err != nil {
		t.Fatal(err)
	}
	return append([]byte("\n "), spaced.Bytes()...)
}

func TestRetryAfterIsWrittenInWholeSeconds(t *testing.T) {
	b := &Broker{}
	for _, tc := range []struct {
		code  api.Code
		after time.Duration
		want  string
	}{
		{api.CodeIdempotencyInProgress, time.Second, "1"},
		{api.CodeIdempotencyInProgress, 1, "1"},
		{api.CodeBudgetSpent, 1500 * time.Millisecond, "2"},
		{api.CodeBudgetSpent, time.Hour, "3600"},
		{api.CodeBudgetSpent, math.MaxInt64, "9223372037"},
		{api.CodeBudgetSpent, 0, ""},
		{api.CodeAuditUnavailable, 0, "1"},
		{api.CodeAuditUnavailable, 5 * time.Second, "5"},
	} {
		w := httptest.NewRecorder()
		refusal := api.Errorf(tc.code, "refused")
		refusal.RetryAfter = tc.after
		b.writeError(&call{w: &statusWriter{ResponseWriter: w}, r: httptest.NewRequest(http.MethodPost, "/", nil)}, refusal)
		if got := w.Header().Get("Retry-After"); got != tc.want {
			t.Errorf("%s after %v: Retry-After %q, want %q", tc.code, tc.after, got, tc.want)
		}
	}
}
