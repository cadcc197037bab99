package main

import (
	"errors"
	"strings"
	"testing"

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
