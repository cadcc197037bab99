package main

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"agentkeys/federation"
)

// Whatever is given for a tenant, only a tag is taken for one, and what is said of the
// rest is a line. The command that the hint has is made of nothing that a shell or SQL
// reads another way.
func FuzzCheckTenantFlag(f *testing.F) {
	const address, grantID = "0x52908400098527886e0f7030069857d2e4169ee7", "grn-AAAAAAAAAAAAAAAA"
	for _, seed := range []string{
		address, strings.ToUpper(address), address + "@" + grantID, grantID, "ASIAAAAAAAAAAAAAAAAA",
		"arn:aws:sts::111122223333:assumed-role/agentkeys-data-role/" + address + "@" + grantID,
		"arn:aws:sts::111122223333:assumed-role/agentkeys-data-role/" + address,
		address + "@grn-' OR 1=1 --", "ASIA' OR 1=1 --", "ASIA$(id)AAAAAAAAA", "x\n" + grantID,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		err := checkTenantFlag(text)
		if (err == nil) != (federation.CheckTenant(text) == nil) {
			t.Fatalf("%q: %v", text, err)
		}
		if err == nil {
			return
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: more than a line: %q", text, err)
		}
		var h hint
		if !errors.As(err, &h) {
			t.Fatalf("%q: no hint in %v", text, err)
		}
		_, command, asks := strings.Cut(h.text, "sqlite3 ")
		if !asks {
			return
		}
		_, value, _ := strings.Cut(command, " = '")
		if value = strings.TrimSuffix(value, `'"`); value == "" || strings.ContainsAny(value, "'\"`$\\ ;\n") {
			t.Errorf("%q: the hint asks for %q", text, value)
		}
	})
}

// What --since says is a time, or how long ago that was; what is neither, or not in the
// past, is refused.
func TestParseCutoff(t *testing.T) {
	for text, want := range map[string]cutoff{
		"2026-05-01T12:00:00Z": {at: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)},
		"15m":                  {ago: 15 * time.Minute},
		"2h":                   {ago: 2 * time.Hour},
		"1h30m":                {ago: 90 * time.Minute},
		"7d":                   {ago: 7 * 24 * time.Hour},
		"99999d":               {ago: 99999 * 24 * time.Hour},
	} {
		if got, err := parseCutoff(text); err != nil || got.ago != want.ago || !got.at.Equal(want.at) {
			t.Errorf("%q: got %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "0s", "0d", "-15m", "-2h", "-1d", "15", "15 m", "2h-15m", "1.5d", "100000d", "9999999h", "0001-01-01T00:00:00Z", "2026-05-01", "now"} {
		if got, err := parseCutoff(text); err == nil || got != (cutoff{}) || !strings.Contains(err.Error(), "above zero") {
			t.Errorf("%q: got %+v, %v; want a refusal", text, got, err)
		}
	}
}

// What is rendered is by this machine's clock: so long ago, at the end of that second.
func TestRenderedSinceALengthOfTime(t *testing.T) {
	issued := regexp.MustCompile(`"aws:TokenIssueTime": "([^"]+)"`)
	for text, ago := range map[string]time.Duration{"15m": 15 * time.Minute, "1ns": time.Nanosecond, "1d": 24 * time.Hour} {
		var out, said bytes.Buffer
		low := time.Now()
		args := []string{"revoke", "--render", "--issuer", "https://issuer.example", "--account", "111122223333", "--region", "us-east-1", "--bucket", "data",
			"--tenant", aliceWallet, "--since", text}
		if code := run(t.Context(), args, nil, &out, &said); code != exitOK {
			t.Fatalf("%s: status %d, said %s", text, code, &said)
		}
		at, err := time.Parse(time.RFC3339, issued.FindStringSubmatch(out.String() + `"aws:TokenIssueTime": "none"`)[1])
		if err != nil || at.Before(low.Add(-ago)) || at.After(time.Now().Add(time.Second-ago)) {
			t.Errorf("%s: got %s, %v; want the second after %s ago", text, at, err, ago)
		}
	}
}
