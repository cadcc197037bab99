package config

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// vkey is the verifier key of an all-but-empty public key.
func vkey(t *testing.T, name string, first byte) string {
	t.Helper()
	public := make([]byte, 32)
	public[0] = first
	key, err := note.NewEd25519VerifierKey(name, public)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestAuditDefaults(t *testing.T) {
	c, err := Load(environ())
	if err != nil {
		t.Fatal(err)
	}
	want(t, []any{c.AuditKeyFile, c.AuditPolicy, c.HeadsFile, c.AnchorFile, c.CheckpointsFile, c.AuditRetention},
		[]any{"audit.jwk", "dual_strict", "", "", "", time.Duration(0)})
	want(t, c.Anchors, []string{"sqlite"})
	want(t, c.AuditOldKeys, []string(nil))
	want(t, c.Auditors, []string(nil))
}

func TestAuditValues(t *testing.T) {
	a, b := vkey(t, "broker.example.com/audit", 1), vkey(t, "old.example.com/audit", 2)
	c, err := Load(environ("BROKER_AUDIT_KEY_FILE=/etc/a.jwk", "BROKER_AUDIT_OLD_KEYS="+a+", "+b, "BROKER_AUDIT_POLICY=sqlite_primary",
		"BROKER_AUDIT_HEADS_FILE=/mnt/heads", "BROKER_AUDIT_ANCHORS=checkpoints, sqlite,file", "BROKER_AUDIT_ANCHOR_FILE=/mnt/a.jsonl",
		"BROKER_AUDIT_CHECKPOINTS_FILE=/mnt/checkpoints", "BROKER_AUDIT_RETENTION_DAYS=36600",
		"BROKER_AUDITORS=evm:0x52908400098527886e0f7030069857d2e4169ee7, email:o'neil+audit@example.com,oauth2_google:10Ab:c"))
	if err != nil {
		t.Fatal(err)
	}
	want(t, []any{c.AuditKeyFile, c.AuditPolicy, c.HeadsFile, c.AnchorFile, c.CheckpointsFile, c.AuditRetention},
		[]any{"/etc/a.jwk", SQLitePrimary, "/mnt/heads", "/mnt/a.jsonl", "/mnt/checkpoints", 36600 * 24 * time.Hour})
	want(t, c.AuditOldKeys, []string{a, b})
	want(t, c.Anchors, []string{"checkpoints", "sqlite", "file"})
	want(t, c.Auditors, []string{"evm:0x52908400098527886e0f7030069857d2e4169ee7", "email:o'neil+audit@example.com", "oauth2_google:10Ab:c"})
	c, err = Load(environ("BROKER_AUDIT_RETENTION_DAYS=1"))
	want(t, []any{c.AuditRetention, err}, []any{24 * time.Hour, nil})
}

func TestAuditRefuses(t *testing.T) {
	key, other := vkey(t, "broker.example.com/audit", 1), vkey(t, "broker.example.com/audit", 2)
	name, rest, _ := strings.Cut(key, "+")
	_, otherRest, _ := strings.Cut(other, "+")
	hash, _, _ := strings.Cut(rest, "+")
	_, otherKey, _ := strings.Cut(otherRest, "+")
	for _, tc := range []struct{ variables, want string }{
		{"BROKER_AUDIT_KEY_FILE=", "BROKER_AUDIT_KEY_FILE is not set"},
		{"BROKER_AUDIT_OLD_KEYS=" + key + ",", "got an empty one"},
		{"BROKER_AUDIT_OLD_KEYS=" + key + "," + key, "twice"},
		{"BROKER_AUDIT_OLD_KEYS=old.vkey", `want verifier keys such as agentkeys keygen --show prints (name+hash+base64), got "old.vkey"`},
		{"BROKER_AUDIT_OLD_KEYS=ak-audit-kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "want verifier keys"},
		{"BROKER_AUDIT_OLD_KEYS=" + name + "+" + hash + "+" + otherKey, "want verifier keys"}, // another key's hash
		{"BROKER_AUDIT_OLD_KEYS=evil.example.com/audit+" + rest, "want verifier keys"},        // another log's name
		{"BROKER_AUDIT_OLD_KEYS=" + key[:len(key)-4], "want verifier keys"},
		{"BROKER_AUDIT_OLD_KEYS=" + key[:len(key)-9] + "\n" + key[len(key)-9:], "want verifier keys"},
		{"BROKER_AUDIT_POLICY=", "want one of dual_strict, sqlite_primary"},
		{"BROKER_AUDIT_POLICY=DUAL_STRICT", "want one of dual_strict, sqlite_primary"},
		{"BROKER_AUDIT_POLICY=none", "want one of dual_strict, sqlite_primary"},
		{"BROKER_AUDIT_ANCHORS=", "want sqlite among them"},
		{"BROKER_AUDIT_ANCHORS=file", "want sqlite among them"},
		{"BROKER_AUDIT_ANCHORS=checkpoints", "want sqlite among them"},
		{"BROKER_AUDIT_ANCHORS=sqlite,sqlite", `got "sqlite" twice`},
		{"BROKER_AUDIT_ANCHORS=sqlite,evm", `want one of sqlite, file, checkpoints, got "evm"`},
		{"BROKER_AUDIT_ANCHORS=sqlite,", "got an empty one"},
		{"BROKER_AUDIT_ANCHORS=sqlite,file", "BROKER_AUDIT_ANCHOR_FILE is not set"},
		{"BROKER_AUDIT_ANCHORS=sqlite,checkpoints", "BROKER_AUDIT_CHECKPOINTS_FILE is not set, and BROKER_AUDIT_ANCHORS names the anchor checkpoints"},
		{"BROKER_AUDIT_ANCHOR_FILE=anchor.jsonl", "BROKER_AUDIT_ANCHORS does not name the anchor file"},
		{"BROKER_AUDIT_CHECKPOINTS_FILE=x", "BROKER_AUDIT_ANCHORS does not name the anchor checkpoints"},
		{"BROKER_AUDIT_ANCHORS=sqlite,file BROKER_AUDIT_ANCHOR_FILE=a BROKER_AUDIT_HEADS_FILE=./a",
			`BROKER_AUDIT_ANCHOR_FILE and BROKER_AUDIT_HEADS_FILE: want two files, got "a" twice`},
		{"BROKER_AUDIT_ANCHORS=sqlite,file,checkpoints BROKER_AUDIT_ANCHOR_FILE=a BROKER_AUDIT_CHECKPOINTS_FILE=a", "want two files"},
		{"BROKER_AUDIT_ANCHORS=sqlite,checkpoints BROKER_AUDIT_CHECKPOINTS_FILE=data/heads", `want two files, got "data/heads" twice`},
		{"BROKER_AUDIT_RETENTION_DAYS=0", "want 1 to 36600 days, got 0"},
		{"BROKER_AUDIT_RETENTION_DAYS=-1", "want a whole number of days"},
		{"BROKER_AUDIT_RETENTION_DAYS=36601", "want 1 to 36600 days, got 36601"},
		{"BROKER_AUDIT_RETENTION_DAYS=for-ever", "want a whole number of days"},
		{"BROKER_AUDITORS=alice@example.com", `got "alice@example.com"`},
		{"BROKER_AUDITORS=*", `got "*"`},
		{"BROKER_AUDITORS=evm:*", `got "evm:*"`},
		{"BROKER_AUDITORS=email:", `got "email:"`},
		{"BROKER_AUDITORS=email:example.com", "want evm:0x"},
		{"BROKER_AUDITORS=email:a@b@example.com", "want evm:0x"},
		{"BROKER_AUDITORS=email:Alice@example.com", "in lower case"},
		{"BROKER_AUDITORS=EMAIL:alice@example.com", "want evm:0x"},
		{"BROKER_AUDITORS=email:a\u0001@example.com", "want evm:0x"},
		{"BROKER_AUDITORS=email:" + strings.Repeat("a", 250) + "@x.org", "want evm:0x"},
		{"BROKER_AUDITORS=evm:0x52908400098527886E0F7030069857D2E4169EE7", "want evm:0x"},
		{"BROKER_AUDITORS=evm:52908400098527886e0f7030069857d2e4169ee7", "want evm:0x"},
		{"BROKER_AUDITORS=evm:0x52908400098527886e0f7030069857d2e4169ee", "want evm:0x"},
		{"BROKER_AUDITORS=evm:0x52908400098527886e0f7030069857d2e4169ee7a", "want evm:0x"},
		{"BROKER_AUDITORS=evm:0x52908400098527886e0f7030069857d2e4169ee7\n,email:a@x.org\nx", "want evm:0x"},
		{"BROKER_AUDITORS=oauth2_google:", "want evm:0x"},
		{"BROKER_AUDITORS=oauth2_github:1", "want evm:0x"},
		{"BROKER_AUDITORS=email:a@example.com,email:a@example.com", "want each auditor once"},
	} {
		_, err := Load(environ(slices.DeleteFunc(strings.Split(tc.variables, " "), func(s string) bool { return s == "" })...))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.variables, err, tc.want)
		}
	}
}

// What an auditor's name may be is one form: no other spelling passes, and it names
// its type.
func FuzzAuditors(f *testing.F) {
	for _, seed := range []string{"", "evm:0x52908400098527886e0f7030069857d2e4169ee7", "email:a@example.com, oauth2_google:1", "email:a@b,", ":", "evm:0x\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, v string) {
		names, err := auditors(v)
		if err != nil {
			return
		}
		again, err := auditors(strings.Join(names, ","))
		if err != nil || !slices.Equal(again, names) {
			t.Fatalf("read %q, and written again %q, %v", names, again, err)
		}
		for _, name := range names {
			kind, value, found := strings.Cut(name, ":")
			if !found || value == "" || len(value) > maxIdentity || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
				t.Fatalf("admitted %q", name)
			}
			if kind != "oauth2_google" && strings.ContainsFunc(value, func(r rune) bool { return r >= 'A' && r <= 'Z' }) {
				t.Fatalf("admitted upper case in %q", name)
			}
		}
	})
}
