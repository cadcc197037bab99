package federation

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func asText(t *testing.T, r *Report, colour bool) string {
	t.Helper()
	var out bytes.Buffer
	if err := r.WriteText(&out, colour); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

var sgr = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// checkLayout holds what is true of every report's text.
func checkLayout(t *testing.T, r *Report) {
	t.Helper()
	plain := asText(t, r, false)
	for _, line := range strings.Split(plain, "\n") {
		if n := utf8.RuneCountInString(line); n > width {
			t.Errorf("a line of %d characters, want at most %d: %q", n, width, line)
		}
		if strings.TrimRight(line, " ") != line {
			t.Errorf("a line ends in spaces: %q", line)
		}
	}
	if strings.Contains(plain, "\x1b") {
		t.Error("the report without colour has escape sequences")
	}
	coloured := asText(t, r, true)
	if !strings.Contains(coloured, "\x1b[") {
		t.Error("the report with colour has none")
	}
	var bare []string
	for _, line := range strings.Split(sgr.ReplaceAllString(coloured, ""), "\n") {
		bare = append(bare, strings.TrimRight(line, " "))
	}
	if strings.Join(bare, "\n") != plain {
		t.Error("colour changes the text")
	}
	if !strings.Contains(plain, "verdict   "+string(r.Verdict)) {
		t.Errorf("the text does not say %s", r.Verdict)
	}
}

func TestTextReport(t *testing.T) {
	for name, broken := range map[string]bool{"report-proven.txt": false, "report-silent-pass.txt": true} {
		a := newAccount(t)
		form, faults := Hardened, []Fault(nil)
		if broken {
			form, faults = Plain, Faults()
		}
		d, inline, err := Break(a.config, render(t, a.config, form), faults...)
		if err != nil {
			t.Fatal(err)
		}
		a.setUp(t, d, inline)
		p := a.proof(t)
		p.InForce = &InForce{Documents: d, Inline: inline}
		if broken {
			for i, tenant := range p.Tenants {
				p.Tenants[i].Token = a.issuer.minter(t, tenant.Tag, withoutTags)
			}
		}
		r := prove(t, p)
		if lines := strings.Count(asText(t, r, false), "\n"); !broken && lines >= 45 {
			t.Errorf("%s has %d lines, want fewer than 45", name, lines)
		}
		r.Config.Issuer = "http://127.0.0.1:8091" // the port differs from run to run
		golden(t, name, []byte(asText(t, r, false)))
	}
}

// TestJSONReport holds the names that machines rely on.
func TestJSONReport(t *testing.T) {
	a := hardenedAccount(t)
	r := prove(t, a.proof(t))
	var out bytes.Buffer
	if err := r.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"at_a_glance", "broken", "causes", "config", "exchanges", "finished_at", "leftovers", "naive_conclusion", "not_tried", "probes", "started_at",
		"target", "tenants", "truth", "unobserved", "verdict",
	}
	if keys := keysOf(got); !slices.Equal(keys, want) {
		t.Errorf("members %q, want %q", keys, want)
	}
	for _, list := range []string{"broken", "causes", "leftovers", "unobserved"} {
		if l, ok := got[list].([]any); !ok || len(l) != 0 {
			t.Errorf("%s is %v, want an empty list", list, got[list])
		}
	}
	if limits, ok := got["not_tried"].([]any); !ok || len(limits) < 5 {
		t.Errorf("not_tried is %v, want what the proof does not cover", got["not_tried"])
	}
	probes, _ := got["probes"].([]any)
	for _, p := range probes {
		probe, _ := p.(map[string]any)
		for _, key := range []string{"id", "group", "actor", "what", "action", "resource", "expected", "actual", "result", "sentence"} {
			if s, ok := probe[key].(string); !ok || s == "" {
				t.Fatalf("%s of probe %v is %v, want text", key, probe["id"], probe[key])
			}
		}
	}
	if at, _ := got["at_a_glance"].(map[string]any); at["foreign_prefix"] != "denied" || at["own_prefix"] != "allowed" {
		t.Errorf("at_a_glance is %v", at)
	}
}

func keysOf(m map[string]any) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// TestReportsHoldNoSecret: neither tokens nor keys, whatever went wrong.
func TestReportsHoldNoSecret(t *testing.T) {
	a := hardenedAccount(t)
	p := a.proof(t)
	token, err := p.Tenants[0].Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.Tenants[0].Token = func(context.Context) (string, error) { return token, nil }
	var out bytes.Buffer
	if err := prove(t, p).WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	_, signature, _ := strings.Cut(token[strings.Index(token, ".")+1:], ".")
	for _, secret := range []string{token, signature, "ASIA", "AKIA"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the report holds %q", secret)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, test := range []struct {
		text string
		at   int
		want []string
	}{
		{"", 5, []string{""}},
		{"one two three", 7, []string{"one two", "three"}},
		{"abcdefgh ij", 3, []string{"abc", "def", "gh", "ij"}},
		{"a abcdefgh", 3, []string{"a", "abc", "def", "gh"}},
		{"ñandú ñandú", 5, []string{"ñandú", "ñandú"}},
	} {
		if got := wrap(test.text, test.at); !slices.Equal(got, test.want) {
			t.Errorf("wrap(%q, %d) = %q, want %q", test.text, test.at, got, test.want)
		}
	}
}

func TestExitStatus(t *testing.T) {
	for v, want := range map[Verdict]int{Proven: 0, Broken: 1, Inconclusive: 3, "": 3} {
		if got := v.ExitStatus(); got != want {
			t.Errorf("%q: %d, want %d", v, got, want)
		}
	}
}
