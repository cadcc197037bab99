package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"agentkeys/federation"
)

// The page on the AWS side has a row for every verb and every code.
func TestFederationPageIsWhole(t *testing.T) {
	page, err := os.ReadFile("../../docs/federation.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range federation.Codes() {
		if !strings.Contains(string(page), "\n| `"+string(code)+"` |") {
			t.Errorf("no row for the code %s", code)
		}
	}
	verbs := (&program{}).federation().Commands()
	if len(verbs) == 0 {
		t.Fatal("no verbs")
	}
	for _, verb := range verbs {
		if !strings.Contains(string(page), "\n| `"+verb.Name()+"` |") {
			t.Errorf("no row for the verb %s", verb.Name())
		}
	}
}

// The pages' commands that revoke are ones that the program knows.
func TestPagesRevokeAsTheProgramDoes(t *testing.T) {
	flag := regexp.MustCompile(`--[a-z0-9-]+`)
	for _, name := range []string{"federation.md", "runbook.md"} {
		page, err := os.ReadFile("../../docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		commands := regexp.MustCompile("agentkeys revoke [^`\n]*--[^`\n]*").FindAllString(string(page), -1)
		if len(commands) == 0 {
			t.Errorf("%s revokes nothing", name)
		}
		for _, command := range commands {
			flags := (&program{}).revoke().Flags()
			for _, f := range flag.FindAllString(command, -1) {
				if flags.Lookup(strings.TrimPrefix(f, "--")) == nil {
					t.Errorf("%s says %q: there is no flag %s", name, command, f)
				}
			}
		}
	}
}
