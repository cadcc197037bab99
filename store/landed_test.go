package store

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"testing"
)

// A database holds the text of the statements that made it, and one whose schema is
// not that of the migrations is not written to. So a migration that databases were made
// with is never edited: a further one makes the change.
func TestMigrationsAreNotEdited(t *testing.T) {
	landed := map[string]string{
		"0001_initial.sql":      "0e6c35b869613cc90ed33d522ab81c3ca39c1d670ad261f9d9ce21504f0109d0",
		"0002_grants.sql":       "d047e5ae1b366a4cba934bb1a0686571c95c03b26458b6693350e85fcc1489a8",
		"0003_audit_log.sql":    "dd1be9321b17d06ecd022bbd2daec6c66d552bdbea3b993cc387ec04ef487ab1",
		"0004_boot.sql":         "12f7f32aebba4afe71d808c6fcd1ac46e02de2b53c787b10d03b3ce291aad363",
		"0005_checks.sql":       "bf160dc4cc934d0f56643cf6b22a69c50ba8986e395dbd82858a5001755166f2",
		"0006_call_digests.sql": "7549238060cc9316a2707692cbfc7c2b47901dc56a2ef35a851c2a32184d9743",
	}
	files, err := fs.Glob(migrations(), "*.sql")
	if err != nil || len(files) != len(landed) {
		t.Fatalf("%d migrations, want the %d that are listed here (%v)", len(files), len(landed), err)
	}
	for _, name := range files {
		text, err := fs.ReadFile(migrations(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(text)); got != landed[name] {
			t.Errorf("%s: want SHA-256 %s, got %s", name, landed[name], got)
		}
	}
}
