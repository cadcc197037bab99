package federation

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TokenView is what can be seen in a token. The signature is not in it.
type TokenView struct {
	Header  map[string]json.RawMessage `json:"header"`
	Claims  map[string]json.RawMessage `json:"claims"`
	Cleaned []string                   `json:"taken_away,omitempty"` // to be able to read it
	Problem string                     `json:"no_token_to_sts,omitempty"`
	Times   []TokenTime                `json:"times"`
	// Tags are the session tags as AWS will read them, and TagProblem says why it
	// refuses the token for them, or reads none.
	Tags       map[string]string `json:"session_tags"`
	Transitive []string          `json:"transitive,omitempty"`
	TagProblem string            `json:"tag_problem,omitempty"`
	// Signature is "not verified", or what came of verifying it.
	Signature string `json:"signature"`
	Verified  bool   `json:"verified"`
	// Wrong says that the signature was looked at and is not good.
	Wrong bool `json:"-"`
}

// TokenTime is one of the token's times.
type TokenTime struct {
	Claim string `json:"claim"`
	Unix  int64  `json:"unix"`
	Text  string `json:"text"` // in the zone of now, with the distance
}

// InspectToken reads a token for a person. The signature is verified where the
// issuer's key set is given, and nothing else is: whether the token is good for
// anything is Explain's to say.
func InspectToken(token, tagKey string, now time.Time, issuer *IssuerDocuments) (*TokenView, error) {
	t, err := ReadToken(token)
	if err != nil {
		return nil, err
	}
	v := &TokenView{Header: t.Header, Claims: t.Claims, Cleaned: t.Cleaned, Problem: t.Problem, Times: []TokenTime{}, Tags: map[string]string{}}
	for _, name := range []string{"iat", "nbf", "exp"} {
		if at, ok := claimTime(t.Claims[name]); ok {
			v.Times = append(v.Times, TokenTime{name, at.Unix(), timeAndDistance(at, now)})
		}
	}
	tags := readTags(t.Claims)
	v.TagProblem = tags.Problem
	if tags.Problem == "" {
		v.Transitive = tags.Transitive
		for _, tag := range tags.Tags {
			v.Tags[tag.Key] = tag.Value
		}
		if _, ok := tags.get(tagKey); !ok {
			v.TagProblem = noTag(t.Claims, tags, tagKey)
		}
	}
	v.verify(t, issuer)
	return v, nil
}

// verify says what the issuer's key set makes of the signature.
func (v *TokenView) verify(t *WebToken, issuer *IssuerDocuments) {
	v.Signature = "NOT VERIFIED: no keys were given, so anybody may have written this"
	if issuer == nil {
		return
	}
	v.Wrong = true
	fail := func(format string, args ...any) {
		v.Signature = oneLine("NOT VERIFIED: " + fmt.Sprintf(format, args...))
	}
	if p := firstOf(issuer.DiscoveryProblem, issuer.KeySetProblem); p != "" {
		fail("the issuer's keys could not be had: %s", p)
		return
	}
	if iss := text(t.Claims["iss"]); issuer.Issuer != "" && iss != issuer.Issuer {
		fail("the keys are those of %q, and the token's iss is %q", issuer.Issuer, iss)
		return
	}
	if issuer.KeySet == nil {
		fail("the issuer's discovery document leads to no key set")
		return
	}
	ks, err := readKeySet(issuer.KeySet)
	if err != nil {
		fail("the key set: %v", err)
		return
	}
	switch c := ks.choose(t); {
	case c.problem != "":
		fail("%s", c.problem)
	case !t.verifies(c.key):
		fail("the signature is not that of the key which the token names")
	default:
		kid, _ := t.KID()
		v.Signature, v.Verified, v.Wrong = oneLine(fmt.Sprintf("verified with key %q of the set", kid)), true, false
	}
}

// WriteText writes the token for a person.
func (v *TokenView) WriteText(w io.Writer, colour bool) error {
	t := explainText{Explanation: &Explanation{}, textReport: textReport{out: bufio.NewWriter(w), colour: colour}}
	sgr := yellow
	switch {
	case v.Verified:
		sgr = green
	case v.Wrong:
		sgr = red
	}
	t.line(t.paint(bold, "signature ") + t.paint(sgr, v.Signature))
	t.members("header", v.Header)
	t.members("claims", v.Claims)
	t.line(t.paint(bold, "times"))
	for _, at := range v.Times {
		t.entry(at.Claim, at.Text)
	}
	t.line(t.paint(bold, "session tags, as AWS reads them"))
	for _, key := range slices.Sorted(maps.Keys(v.Tags)) {
		text := strconv.Quote(v.Tags[key])
		if slices.ContainsFunc(v.Transitive, func(k string) bool { return strings.EqualFold(k, key) }) {
			text += " (transitive)"
		}
		t.entry(key, text)
	}
	if v.TagProblem != "" {
		t.entry("note", v.TagProblem)
	}
	for _, c := range v.Cleaned {
		t.entry("note", "taken away to read it: "+c)
	}
	if v.Problem != "" {
		t.entry("note", "STS would not take it for a token: "+v.Problem)
	}
	return t.out.Flush()
}

// members writes a JSON object, one member a line.
func (t *explainText) members(title string, m map[string]json.RawMessage) {
	t.line(t.paint(bold, title))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		var indented bytes.Buffer
		if raw := m[name]; len(raw) > 0 && (raw[0] == '{' || raw[0] == '[') && json.Indent(&indented, raw, "    ", "  ") == nil {
			t.line("  " + printableText(name))
			for l := range strings.Lines("    " + indented.String()) {
				t.line(printableText(strings.TrimSuffix(l, "\n")))
			}
			continue
		}
		t.entry(name, string(m[name]))
	}
}
