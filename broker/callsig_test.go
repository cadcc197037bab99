package broker

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gowebpki/jcs"
	"pgregory.net/rapid"

	"agentkeys/api"
	"agentkeys/client"
)

const callURL = "https://broker.example" + api.PathMintAWS

// callVectors is testdata/calls.json: calls that the npm package ethers signed.
// testdata/README.md tells how it came about.
type callVectors struct {
	Accepted []struct {
		Name, Method, URL, Body, Text, Address string
	} `json:"accepted"`
	Refused []struct {
		Name, Method, URL, Body string
		Code                    api.Code
	} `json:"refused"`
}

func loadCalls(t testing.TB) callVectors {
	t.Helper()
	data, err := os.ReadFile("testdata/calls.json")
	if err != nil {
		t.Fatal(err)
	}
	var v callVectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Accepted) == 0 || len(v.Refused) == 0 {
		t.Fatal("testdata/calls.json has an empty list")
	}
	return v
}

// admit does what an endpoint does with a signed call before anything else.
func admit(method, url string, body []byte) (text, address string, err error) {
	r, err := decodeBody[api.MintAWSRequest](body)
	if err != nil {
		return "", "", err
	}
	text, err = callText(method, url, body)
	if err != nil {
		return "", "", err
	}
	address, err = checkCall(text, r.Auth)
	return text, address, err
}

func TestCallTextIsWhatEthersSigned(t *testing.T) {
	for _, v := range loadCalls(t).Accepted {
		t.Run(v.Name, func(t *testing.T) {
			text, address, err := admit(v.Method, v.URL, []byte(v.Body))
			if err != nil {
				t.Fatal(err)
			}
			if text != v.Text {
				t.Errorf("text\n%s, want\n%s", text, v.Text)
			}
			if address != v.Address {
				t.Errorf("address %s, want %s", address, v.Address)
			}
		})
	}
}

func TestCallsThatAreRefused(t *testing.T) {
	for _, v := range loadCalls(t).Refused {
		t.Run(v.Name, func(t *testing.T) {
			_, address, err := admit(v.Method, v.URL, []byte(v.Body))
			var e *api.Error
			if !errors.As(err, &e) || e.Code != v.Code || e.Status != api.KindOf(v.Code).Status || address != "" {
				t.Fatalf("address %q, error %v; want code %s", address, err, v.Code)
			}
			if echoesSignature(e.Detail, v.Body) {
				t.Errorf("the refusal echoes the signature: %s", e.Detail)
			}
		})
	}
}

// echoesSignature says whether a text has six digits on end of the body's signature.
func echoesSignature(text, body string) bool {
	_, rest, _ := strings.Cut(body, `"signature":"`)
	signature, _, _ := strings.Cut(rest, `"`)
	signature = strings.TrimPrefix(signature, "0x")
	for i := 0; i+6 <= len(signature); i++ {
		if strings.Contains(text, signature[i:i+6]) {
			return true
		}
	}
	return false
}

func TestCallSignatureHasItsStatus(t *testing.T) {
	if status := api.KindOf(api.CodeCallSignature).Status; status != http.StatusUnauthorized {
		t.Errorf("status %d, want 401", status)
	}
}

// signedAs is a body with a signature, and with a member x of the given JSON text.
func signedAs(x string) string {
	return `{"auth":{"address":"0x","signature":"0x"},"x":` + x + `}`
}

// Two bodies of different meaning must not have one text. RFC 8785 would give
// them one, as the first check shows.
func TestCallTextDoesNotRound(t *testing.T) {
	for _, pair := range [][2]string{
		{"9007199254740992", "9007199254740993"},
		{"-9007199254740992", "-9007199254740993"},
		{"9223372036854775807", "9223372036854775808"},
		{"0.1", "0.1000000000000000055"},
		{"1e-400", "0.0"},
		{`[{"a":9007199254740993}]`, `[{"a":9007199254740992}]`},
	} {
		var rounded [2]string
		for i, x := range pair {
			canonical, err := jcs.Transform([]byte(x))
			if err != nil {
				t.Fatal(err)
			}
			rounded[i] = string(canonical)
			if text, err := callText("POST", callURL, []byte(signedAs(x))); err == nil {
				t.Errorf("%s: got the text %s, want a refusal", x, text)
			} else {
				wantBadRequest(t, x, err)
			}
		}
		if rounded[0] != rounded[1] {
			t.Errorf("%v: RFC 8785 tells them apart, so they show nothing", pair)
		}
	}
	for _, x := range []string{"9007199254740991", "-9007199254740991", "0", "1", "-1", "[1,2,[3]]"} {
		text, err := callText("POST", callURL, []byte(signedAs(x)))
		if want := `"x":` + x + `}`; err != nil || !strings.Contains(text, want) {
			t.Errorf("%s: got %q, %v; want a text with %s", x, text, err, want)
		}
	}
}

func TestCallTextRefusals(t *testing.T) {
	for name, body := range map[string]string{
		"nothing":                        "",
		"no object":                      `["auth",{"signature":"0x"}]`,
		"text behind the body":           signedAs("1") + `,"method":"GET"}`,
		"a second body":                  signedAs("1") + signedAs("1"),
		"NaN":                            signedAs("NaN"),
		"infinity":                       signedAs("Infinity"),
		"out of range":                   signedAs("1e400"),
		"negative zero":                  signedAs("-0"),
		"whole, written with a point":    signedAs("1.0"),
		"whole, written with a power":    signedAs("1e2"),
		"leading zero":                   signedAs("01"),
		"plus":                           signedAs("+1"),
		"hexadecimal":                    signedAs("0x10"),
		"a comment":                      signedAs("1/**/"),
		"a comma too many":               signedAs("[1,]"),
		"high half of a pair":            signedAs(`"\ud83d"`),
		"low half of a pair":             signedAs(`"\udd11"`),
		"a pair the wrong way round":     signedAs(`"\udd11\ud83d"`),
		"half of a pair in a name":       signedAs(`{"\ud83d":1}`),
		"half of a pair, signed with it": `{"auth":{"address":"0x","signature":"\ud83d"}}`,
		"not UTF-8":                      signedAs("\"\xff\""),
		"overlong UTF-8":                 signedAs("\"\xc0\xaf\""),
		"a surrogate in UTF-8":           signedAs("\"\xed\xa0\xbd\""),
		"a control character":            signedAs("\"\n\""),
		"a name twice":                   `{"x":1,"x":1,"auth":{"signature":"0x"}}`,
		"a name twice, once escaped":     `{"x":1,"\u0078":1,"auth":{"signature":"0x"}}`,
		"a name twice, deep":             signedAs(`[{"a":{"b":1,"b":2}}]`),
		"signature twice":                `{"auth":{"signature":"0x","signature":"0x"}}`,
		"signature twice, once escaped":  `{"auth":{"signature":"0x","signatur\u0065":"0x"}}`,
		"auth twice":                     `{"auth":{"signature":"0x"},"auth":{}}`,
		"17 levels":                      signedAs(strings.Repeat("[", 16) + strings.Repeat("]", 16)),
		"17 levels of objects":           signedAs(strings.Repeat(`{"a":`, 16) + "1" + strings.Repeat("}", 16)),
		"no auth":                        `{"x":1}`,
		"no signature":                   `{"auth":{"address":"0x"}}`,
		"signature in the wrong place":   `{"signature":"0x","auth":{}}`,
		"signature too deep":             `{"auth":{"auth":{"signature":"0x"}}}`,
		"signature in an array":          `{"auth":["signature","0x"]}`,
		"signature in another case":      `{"auth":{"Signature":"0x"}}`,
		"signature null":                 `{"auth":{"signature":null}}`,
		"signature a number":             `{"auth":{"signature":1}}`,
		"signature an object":            `{"auth":{"signature":{"signature":"0x"}}}`,
	} {
		text, err := callText("POST", callURL, []byte(body))
		if err == nil {
			t.Errorf("%s: got the text %s, want a refusal", name, text)
			continue
		}
		wantBadRequest(t, name, err)
	}
	whole := signedAs(`["\ud83d\udd11",{"a":-1}]`)
	for n := range len(whole) {
		if text, err := callText("POST", callURL, []byte(whole[:n])); err == nil {
			t.Errorf("%s: got the text %s, want a refusal", whole[:n], text)
		}
	}
	for _, bad := range []string{"\xff", "é", "\n", "\x00", "\x7f", `"`, `","url":"`, `\`} {
		if text, err := callText("POST", callURL+bad, []byte(signedAs("1"))); err == nil {
			t.Errorf("a URL with %q has the text %s", bad, text)
		}
		if text, err := callText("POST"+bad, callURL, []byte(signedAs("1"))); err == nil {
			t.Errorf("a method with %q has the text %s", bad, text)
		}
	}
}

func wantBadRequest(t *testing.T, name string, err error) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != api.CodeBadRequest {
		t.Errorf("%s: got %v, want bad_request", name, err)
	}
}

func TestCallTextTakesOutOneMember(t *testing.T) {
	for _, tc := range []struct{ body, want string }{
		{`{"auth":{"signature":"0x"}}`, `{"auth":{}}`},
		{`{ "auth" : { "signature" : "0x" } }`, `{"auth":{}}`},
		{`{"\u0061uth":{"signatur\u0065":"0x"}}`, `{"auth":{}}`},
		{`{"auth":{"a":1,"signature":"}\",\\","z":2}}`, `{"auth":{"a":1,"z":2}}`},
		{`{"auth":{"z":2,"signature":""},"a":{"signature":"0x"}}`, `{"a":{"signature":"0x"},"auth":{"z":2}}`},
		{`{"signature":"0x","auth":{"signature":"0x","auth":{"signature":"0x"}}}`, `{"auth":{"auth":{"signature":"0x"}},"signature":"0x"}`},
		{`{"intent":{"auth":{"signature":"0x"}},"auth":{"signature":"0x"}}`, `{"auth":{},"intent":{"auth":{"signature":"0x"}}}`},
		{`{"auth":{"signature":"0x","a":[],"b":{},"c":[true,false,null]},"":""}`, `{"":"","auth":{"a":[],"b":{},"c":[true,false,null]}}`},
		{`{"auth":{"signature":"0x"},"\ufb33":1,"\ud83d\udd11":2}`, `{"auth":{},"` + "\U0001f511" + `":2,"` + "\ufb33" + `":1}`}, // by UTF-16 units
		{signedAs(strings.Repeat("[", 15) + strings.Repeat("]", 15)), `{"auth":{"address":"0x"},"x":` + strings.Repeat("[", 15) + strings.Repeat("]", 15) + `}`},
	} {
		got, err := callText("POST", "https://broker.example/<&'>", []byte(tc.body))
		want := `{"body":` + tc.want + `,"method":"POST","url":"https://broker.example/<&'>"}`
		if err != nil || got != want {
			t.Errorf("%s:\ngot  %s, %v\nwant %s", tc.body, got, err, want)
		}
	}
}

// FuzzCallText: the text of a body means the same as method, URL and body without
// the signature, so that two bodies with one text mean the same; it is in its
// canonical form; and white space in the body changes nothing.
func FuzzCallText(f *testing.F) {
	v := loadCalls(f)
	for _, call := range v.Accepted {
		f.Add([]byte(call.Body))
	}
	for _, call := range v.Refused {
		f.Add([]byte(call.Body))
	}
	f.Add([]byte(signedAs(`[1,-2,{"a":"\ud83d\udd11"},true,null]`)))
	f.Fuzz(func(t *testing.T, body []byte) {
		text, err := callText("POST", callURL, body)
		if err != nil {
			return
		}
		sent := meaning(t, body).(map[string]any)
		delete(sent["auth"].(map[string]any), "signature")
		want := map[string]any{"method": "POST", "url": callURL, "body": sent}
		if got := meaning(t, []byte(text)); !reflect.DeepEqual(got, any(want)) {
			t.Errorf("the text means %v, want %v", got, want)
		}
		if canonical, err := jcs.Transform([]byte(text)); err != nil || string(canonical) != text {
			t.Errorf("the text %s has the canonical form %s (%v)", text, canonical, err)
		}
		spaced := respaced(t, body)
		if again, err := callText("POST", callURL, spaced); err != nil || again != text {
			t.Errorf("with other white space: %s, %v; want %s", again, err, text)
		}
	})
}

// The client signs the text that it makes of its types; the broker reads the text
// out of the bytes. What one signs, the other must find.
func TestClientAndBrokerAgreeOnTheText(t *testing.T) {
	w, err := client.NewWallet()
	if err != nil {
		t.Fatal(err)
	}
	text := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune("a/\"\\{}[]:,<>& \x00\n\u007f\u2028\ufeff\ufffd\U0001f511é"))))
	rapid.Check(t, func(t *rapid.T) {
		method := rapid.SampledFrom([]string{"POST", "PUT"}).Draw(t, "method")
		url := "https://broker.example/" + rapid.StringMatching(`[!#-\[\]-~]*`).Draw(t, "path")
		r, err := client.SignCall(w, method, url, api.MintAWSRequest{
			RequestID: text.Draw(t, "request_id"),
			IssuedAt:  api.Timestamp{Time: time.Unix(rapid.Int64Range(0, 253402300799).Draw(t, "issued_at"), 0)},
			Intent: api.Intent{
				AgentID:   text.Draw(t, "agent_id"),
				Service:   text.Draw(t, "service"),
				ScopePath: text.Draw(t, "scope_path"),
				GrantID:   text.Draw(t, "grant_id"),
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		_, address, err := admit(method, url, body)
		if err != nil || address != strings.ToLower(w.Address()) {
			t.Errorf("%s: %s, %v; want %s", body, address, err, w.Address())
		}
	})
}

func BenchmarkCallText(b *testing.B) {
	body := []byte(loadCalls(b).Accepted[0].Body)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := callText("POST", callURL, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeCall(b *testing.B) {
	body := []byte(loadCalls(b).Accepted[0].Body)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeBody[api.MintAWSRequest](body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckCall(b *testing.B) {
	v := loadCalls(b).Accepted[0]
	r, err := decodeBody[api.MintAWSRequest]([]byte(v.Body))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := checkCall(v.Text, r.Auth); err != nil {
			b.Fatal(err)
		}
	}
}

func atoi(t testing.TB, number json.Number) int64 {
	t.Helper()
	n, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil {
		t.Fatalf("a number that is not whole was accepted: %s", number)
	}
	return n
}
