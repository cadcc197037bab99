package federation

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestReadTokenIsLenient(t *testing.T) {
	good := explainToken(t, nil)
	parts := strings.Split(good, ".")
	for name, test := range map[string]struct{ text, cleaned, problem string }{
		"as it is":          {good, "", ""},
		"a line end":        {good + "\n", "after it", ""},
		"Windows line ends": {"\ufeff" + good + "\r\n", "byte order mark", ""},
		"spaces":            {"  " + good, "2 bytes of white space before it", ""},
		"wrapped":           {good[:30] + "\n  " + good[30:], "3 bytes of white space inside it", problemInside},
		"padded":            {parts[0] + "==." + parts[1] + "." + parts[2], "", "header: " + problemPadding},
		"critical":          {signToken(t, []byte("{}"), map[string]any{"crit": []string{"x"}}), "", "crit"},
	} {
		got, err := ReadToken(test.text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if cleaned := strings.Join(got.Cleaned, "; "); !strings.Contains(cleaned, test.cleaned) || (test.cleaned == "") != (cleaned == "") {
			t.Errorf("%s: taken away %q", name, cleaned)
		}
		if !strings.Contains(got.Problem, test.problem) || (test.problem == "") != (got.Problem == "") {
			t.Errorf("%s: problem %q", name, got.Problem)
		}
	}
	for text, want := range map[string]string{
		"": "empty", "abc": "opaque", good + ".a.b": "encrypted", parts[0] + "." + parts[1]: "cut off", "a.b.c": "header", parts[0] + ".!." + parts[2]: "payload: want base64url",
		parts[0] + "." + tokenB64([]byte("[]")) + ".x": "payload: want a JSON object", parts[0] + "." + parts[1] + ".!": "signature",
	} {
		if _, err := ReadToken(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want %q, got %v", clip(text, 40), want, err)
		}
	}
}

func TestInspectToken(t *testing.T) {
	in := explainReference(t)
	token := explainToken(t, nil)
	signature := token[strings.LastIndexByte(token, '.')+1:]
	show := func(token string, issuer *IssuerDocuments) (*TokenView, string) {
		t.Helper()
		v, err := InspectToken(token, DefaultTagKey, explainThen, issuer)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := v.WriteText(&b, false); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), signature[:20]) {
			t.Error("the signature is shown")
		}
		return v, b.String()
	}
	v, text := show(token, nil)
	if v.Verified || v.Wrong || !strings.Contains(text, "NOT VERIFIED: no keys were given") {
		t.Errorf("without keys:\n%s", text)
	}
	v, text = show(token+"\n", in.Issuer)
	if !v.Verified {
		t.Errorf("with the key: %+v", v)
	}
	golden(t, "inspect-token.txt", []byte(text))
	if v, text = show(flipToken(token), in.Issuer); v.Verified || !v.Wrong {
		t.Errorf("a changed token:\n%s", text)
	}
	if v, text = show(explainToken(t, map[string]any{"iss": "https://other.example.com"}), in.Issuer); v.Verified || !strings.Contains(text, "token's iss is") {
		t.Errorf("another's keys:\n%s", text)
	}
	if v, _ = show(explainToken(t, map[string]any{tagsClaim: map[string]any{"principal_tags": map[string]any{DefaultTagKey: walletA}}}), nil); len(v.Tags) > 0 || !strings.Contains(v.TagProblem, "array of one string") {
		t.Errorf("a string for an array: %+v", v)
	}
}

// FuzzReadToken holds that what is read without a remark is the token and nothing
// else, that what is shown holds no signature, and that Explain gives in to nothing.
func FuzzReadToken(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzReadToken/*")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds in testdata/fuzz/FuzzReadToken (%v)", err)
	}
	in := explainReference(f)
	f.Fuzz(func(t *testing.T, text string) {
		read, err := ReadToken(text)
		in := in
		in.Token = text
		x := Explain(in)
		if x.Verdict == GivesCredentials {
			t.Errorf("a made-up token gets in: %q", text)
		}
		if err != nil {
			if s := x.step("token"); text != "" && (s == nil || s.Outcome == StepOK) {
				t.Errorf("%q is no token, and its step passes", text)
			}
			return
		}
		if len(read.Cleaned) == 0 && read.compact != text {
			t.Errorf("%q was read as %q without a word", text, read.compact)
		}
		if s := x.step("token"); read.Problem != "" && s.Outcome != StepFails {
			t.Errorf("%q has a problem, and its step passes", text)
		}
		signature := read.compact[strings.LastIndexByte(read.compact, '.')+1:]
		if len(signature) < 40 || strings.Count(text, signature) > 1 {
			return
		}
		if strings.Contains(explainedText(x), signature) {
			t.Errorf("the signature of %q is shown", text)
		}
	})
}
