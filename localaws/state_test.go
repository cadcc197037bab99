package localaws

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
)

func TestCreateAndOpenRefusals(t *testing.T) {
	good := func(t *testing.T) Config {
		c := Config{Dir: t.TempDir(), Account: testAccount, Region: testRegion}
		if err := Create(c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	write := func(t *testing.T, c Config, name string, data []byte) {
		if err := os.WriteFile(filepath.Join(c.Dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	edit := func(old, replacement string) func(*testing.T, *Config) {
		return func(t *testing.T, c *Config) {
			data, err := os.ReadFile(filepath.Join(c.Dir, stateName))
			if err != nil || !bytes.Contains(data, []byte(old)) {
				t.Fatalf("%q is not in the state: %v", old, err)
			}
			write(t, *c, stateName, bytes.Replace(data, []byte(old), []byte(replacement), 1))
		}
	}
	for _, test := range []struct {
		name   string
		change func(*testing.T, *Config)
		want   string // in the error
	}{
		{"no account", func(_ *testing.T, c *Config) { c.Account = "12345" }, `want twelve digits, got "12345"`},
		{"no region", func(_ *testing.T, c *Config) { c.Region = "" }, "got none"},
		{"another account", func(_ *testing.T, c *Config) { c.Account = "999999999999" }, "want account 999999999999, got " + testAccount},
		{"no folder", func(_ *testing.T, c *Config) { c.Dir += "/none" }, "no such file or directory"},
		{"a file for a folder", func(_ *testing.T, c *Config) { c.Dir += "/" + keyName }, "not a folder"},
		{"a folder without state", func(t *testing.T, c *Config) { c.Dir = t.TempDir() }, "holds no state.json"},
		{"a newer format", edit(`{"format":1,`, `{"format":2,`), "want format 1, got 2"},
		{"no format", edit(`{"format":1,`, `{`), "want format 1, got 0"},
		{"an unknown member", edit(`{"format":1,`, `{"format":1,"more":1,`), "unknown field"},
		{"one letter changed", edit(`"name":"admin"`, `"name":"Admin"`), "it is damaged: want SHA-256"},
		{"more after the end", edit("\n", "\n{}"), "after top-level value"},
		{"cut short", func(t *testing.T, c *Config) { write(t, *c, stateName, []byte(`{"format":1,"sta`)) }, "unexpected end"},
		{"empty", func(t *testing.T, c *Config) { write(t, *c, stateName, nil) }, "unexpected end"},
		{"state others can read", func(t *testing.T, c *Config) { os.Chmod(filepath.Join(c.Dir, stateName), 0o644) }, "want a regular file of mode 0600"},
		{"session key others can read", func(t *testing.T, c *Config) { os.Chmod(filepath.Join(c.Dir, keyName), 0o640) }, "want a regular file of mode 0600"},
		{"session key gone", func(t *testing.T, c *Config) { os.Remove(filepath.Join(c.Dir, keyName)) }, "reading session key"},
		{"session key short", func(t *testing.T, c *Config) { write(t, *c, keyName, []byte("abcd\n")) }, "want 32 bytes in hex, got 5 characters"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := good(t)
			test.change(t, &c)
			s, err := Open(c)
			if err == nil {
				s.Close()
				t.Fatal("want an error")
			}
			if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("want one line with %q, got %q", test.want, err)
			}
		})
	}
	t.Run("create over state", func(t *testing.T) {
		if err := Create(good(t)); err == nil || !strings.Contains(err.Error(), "exists already") {
			t.Errorf("want a refusal, got %v", err)
		}
	})
	t.Run("two at a time", func(t *testing.T) {
		c := good(t)
		s, err := Open(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(c); err == nil || !strings.Contains(err.Error(), "another process uses it") {
			t.Errorf("want a refusal, got %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := Open(c)
		if err != nil {
			t.Fatalf("after the first is closed: %v", err)
		}
		again.Close()
	})
}

// TestStateParts refuses states that were written whole but do not hold together.
func TestStateParts(t *testing.T) {
	for name, change := range map[string]func(*state){
		"no account":           func(s *state) { s.Account = "" },
		"admin key gone":       func(s *state) { s.AdminKey = "AKIAX" },
		"key of nobody":        func(s *state) { s.Keys["AKIAX"] = &accessKey{UserID: "AIDAX"} },
		"key null":             func(s *state) { s.Keys["AKIAX"] = nil },
		"user renamed":         func(s *state) { s.Users["admin"].Name = "other" },
		"user null":            func(s *state) { s.Users["x"] = nil },
		"role null":            func(s *state) { s.Roles["x"] = nil },
		"role without trust":   func(s *state) { s.Roles["x"] = &role{entity: entity{Name: "x"}} },
		"group null":           func(s *state) { s.Groups["x"] = nil },
		"policy misplaced":     func(s *state) { s.Policies["x"] = &managedPolicy{} },
		"provider misplaced":   func(s *state) { s.Providers["x"] = &provider{URL: "https://y.example.com"} },
		"inline policy broken": func(s *state) { s.Users["admin"].Inline = map[string]string{"p": "{"} },
	} {
		t.Run(name, func(t *testing.T) {
			c := Config{Dir: t.TempDir(), Account: testAccount, Region: testRegion}
			if err := Create(c); err != nil {
				t.Fatal(err)
			}
			st, err := readState(c.Dir)
			if err != nil {
				t.Fatal(err)
			}
			change(st)
			if err := writeState(c.Dir, st); err != nil {
				t.Fatal(err)
			}
			if s, err := Open(c); err == nil {
				s.Close()
				t.Error("want an error")
			}
		})
	}
}

// TestStateSurvives writes one thing of each kind, opens the folder again and
// finds it, and that nothing that holds a secret can be read by others.
func TestStateSurvives(t *testing.T) {
	a, ctx := newAccount(t), t.Context()
	a.federate()
	a.newUser("u", allowAll)
	a.putRolePolicy("p", allowAll)
	must[*iam.CreatePolicyOutput](t)(a.iam().CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("m"), PolicyDocument: aws.String(allowAll), Tags: iamTags("k", "v")}))
	must[*iam.CreateGroupOutput](t)(a.iam().CreateGroup(ctx, &iam.CreateGroupInput{GroupName: aws.String("g")}))
	before, err := json.Marshal(a.server.state.snapshot().state)
	if err != nil {
		t.Fatal(err)
	}
	a.stop()
	a.open()
	after, err := json.Marshal(a.server.state.snapshot().state)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("want %s, got %s", before, after)
	}
	for _, name := range []string{stateName, keyName, lockName} {
		info, err := os.Stat(filepath.Join(a.dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: want mode 0600, got %v, %v", name, info.Mode(), err)
		}
	}
}

// TestFailedWrite takes the folder away: the call fails, and its change is not
// to be seen.
func TestFailedWrite(t *testing.T) {
	a := newAccount(t)
	moved := a.dir + "-moved"
	if err := os.Rename(a.dir, moved); err != nil {
		t.Fatal(err)
	}
	_, err := a.iam().CreateUser(t.Context(), &iam.CreateUserInput{UserName: aws.String("u")})
	wantError(t, err, "InternalFailure", "")
	_, err = a.iam().GetUser(t.Context(), &iam.GetUserInput{UserName: aws.String("u")})
	wantError(t, err, "NoSuchEntity", "")
	if err := os.Rename(moved, a.dir); err != nil {
		t.Fatal(err)
	}
	must[*iam.CreateUserOutput](t)(a.iam().CreateUser(t.Context(), &iam.CreateUserInput{UserName: aws.String("u")}))
}

// TestSecretsStayInside looks for secrets where they have no business.
func TestSecretsStayInside(t *testing.T) {
	a := newAccount(t)
	a.federate()
	c := a.mustAssume(a.token(nil))
	data, err := os.ReadFile(filepath.Join(a.dir, stateName))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte(*c.SecretAccessKey)) || bytes.Contains(data, []byte(*c.AccessKeyId)) {
		t.Error("a session's credentials are in the state file")
	}
	if strings.Contains(*c.SessionToken, *c.SecretAccessKey) {
		t.Error("the session token shows the secret")
	}
}
