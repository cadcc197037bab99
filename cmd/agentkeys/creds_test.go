package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"agentkeys/api"
)

// A secret may hold whatever base64 holds, and a false broker may send anything: a
// shell takes each value as it is and runs none of it.
func TestExportsAreSafeForEval(t *testing.T) {
	for _, value := range []string{"AQoD+/=", "a b", "'", `'"'"'`, "$(touch stolen)", "`touch stolen`", "x; touch stolen", "x\ntouch stolen", `\`, "*", "~", "$HOME", "-n", ""} {
		given := api.MintAWSResponse{AccessKeyID: value, SecretAccessKey: value, SessionToken: value, Expiration: 1780000000}
		var text strings.Builder
		if err := writeExports(&text, given); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/bin/sh", "-c", `eval "$1"; printf '%s|' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" "$AWS_SESSION_TOKEN" "$AWS_CREDENTIAL_EXPIRATION" "${AWS_PROFILE-unset}"; ls`, "sh", text.String())
		cmd.Dir = t.TempDir()
		cmd.Env = []string{"PATH=/usr/bin:/bin", "AWS_PROFILE=other"}
		out, err := cmd.CombinedOutput()
		if want := value + "|" + value + "|" + value + "|2026-05-28T20:26:40Z|unset|"; err != nil || string(out) != want {
			t.Errorf("%q: got %q (%v), want %q", value, out, err, want)
		}
	}
}

// The credentials are the only ones that the command's environment names, and each
// variable is there once; all else stays.
func TestEnvironmentOfTheCommand(t *testing.T) {
	given := api.MintAWSResponse{AccessKeyID: "ASIAOURS", SecretAccessKey: "our secret", SessionToken: "our token", Expiration: 1780000000}
	environ := []string{"PATH=/bin", "AWS_REGION=eu-west-1", "AWS_CONFIG_FILE=config", "AWS_ENDPOINT_URL=http://127.0.0.1:1", "EMPTY=",
		"AWS_ACCESS_KEY_ID=AKIATHEIRS", "AWS_SECRET_ACCESS_KEY=theirs", "AWS_SESSION_TOKEN=theirs", "AWS_CREDENTIAL_EXPIRATION=theirs", "AWS_ACCESS_KEY_ID=AKIATWICE"}
	for _, name := range rivals {
		environ = append(environ, name+"=theirs")
	}
	got := withCredentials(environ, given)
	want := []string{"PATH=/bin", "AWS_REGION=eu-west-1", "AWS_CONFIG_FILE=config", "AWS_ENDPOINT_URL=http://127.0.0.1:1", "EMPTY=",
		"AWS_ACCESS_KEY_ID=ASIAOURS", "AWS_SECRET_ACCESS_KEY=our secret", "AWS_SESSION_TOKEN=our token", "AWS_CREDENTIAL_EXPIRATION=2026-05-28T20:26:40Z"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, name := range []string{"AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		if !slices.Contains(rivals, name) {
			t.Errorf("%s is not taken away", name)
		}
	}
}
