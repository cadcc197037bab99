package main

import (
	"os"
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
