package policy

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse: nothing panics, and what parses is written and parsed to the same.
func FuzzParse(f *testing.F) {
	addReferenceFiles(f)
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse([]byte(text))
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("an error of more than a line: %q", err)
			}
			return
		}
		written, err := d.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(written)
		if err != nil {
			t.Fatalf("%v\n%s", err, written)
		}
		if !reflect.DeepEqual(d, again) {
			t.Fatalf("got %+v\nwant %+v", again, d)
		}
		d.Public()
		for k := IdentityPolicy; k <= ControlPolicy; k++ {
			_ = d.Validate(k)
		}
		_ = d.ValidateBucket(BucketRules{Bucket: "agentkeys-data", Account: account})
	})
}

// FuzzEvaluate: no document and no request makes deciding panic, and Explain
// agrees with Evaluate.
func FuzzEvaluate(f *testing.F) {
	for _, name := range referenceFiles(f) {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), uint8(3), "s3:GetObject", objectARN, walletA, "bots/", uint16(3))
		f.Add(string(text), uint8(5), "sts:TagSession", roleARN, "", "x", uint16(0x2ff))
	}
	f.Fuzz(func(t *testing.T, text string, caller uint8, action, resource, tag, prefix string, bits uint16) {
		d, err := Parse([]byte(text))
		if err != nil {
			return
		}
		p, err := Compile("p", d)
		if err != nil {
			t.Fatalf("parsed, but does not compile: %v", err)
		}
		on := func(bit int) bool { return bits>>bit&1 == 1 }
		ctx := NewContext()
		if on(0) {
			ctx.Set("aws:PrincipalTag/agentkeys_user_wallet", tag)
		}
		if on(1) {
			ctx.Set("s3:prefix", prefix)
		}
		if on(2) {
			ctx.SetList("aws:TagKeys", strings.Split(tag, ",")...)
		}
		if on(3) {
			ctx.Set("aws:RequestTag/agentkeys_user_wallet", tag)
		}
		one := []*Policy{p}
		s := &Set{Resource: one, ResourceMustAllow: on(4)}
		for bit, layer := range []*[]*Policy{&s.Identity, &s.Boundary, &s.Session} {
			if on(5 + bit) {
				*layer = one
			}
		}
		if on(8) {
			s.ServiceControl = [][]*Policy{one}
		}
		if on(9) {
			s.ResourceControl = [][]*Policy{one}
		}
		r := &Request{
			Principal: worldCallers[int(caller)%len(worldCallers)], Action: action, Resource: resource,
			ResourceAccount: account, Context: ctx,
		}
		checkExplanation(t, r, s)
	})
}

// FuzzMatch compares the matcher with the naive one. "$" stands for a variable.
func FuzzMatch(f *testing.F) {
	f.Add("bots/$/*", "a", "bots/a/x")
	f.Add("*?😀", "*", "a😀")
	f.Add("a*b*$?c", "ab", "aabbabxc")
	f.Fuzz(func(t *testing.T, pattern, v, text string) {
		if len(pattern) > 60 || len(text) > 200 || len(v) > 20 || strings.ContainsAny(pattern, "{}") || !utf8.ValidString(pattern) || !utf8.ValidString(v) {
			return
		}
		matchAgrees(t, pattern, v, text)
	})
}

func referenceFiles(t testing.TB) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", "reference", "*.json"))
	if err != nil || len(names) == 0 {
		t.Fatalf("testdata/reference holds no documents (%v)", err)
	}
	return names
}

func addReferenceFiles(f *testing.F) {
	f.Helper()
	for _, name := range referenceFiles(f) {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
}

// TestSeeds: every fuzz target has seeds that are checked in.
func TestSeeds(t *testing.T) {
	for _, target := range []string{"FuzzParse", "FuzzEvaluate", "FuzzMatch"} {
		names, err := filepath.Glob(filepath.Join("testdata", "fuzz", target, "*"))
		if err != nil || len(names) == 0 {
			t.Errorf("testdata/fuzz/%s holds no seeds (%v)", target, err)
		}
	}
}
