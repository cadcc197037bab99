package federation

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadAccountWantsAllPages refuses an export that says that there is more: what
// is not in it would pass for sound.
func TestReadAccountWantsAllPages(t *testing.T) {
	for member, value := range map[string]any{"IsTruncated": true, "NextToken": "eyJNYXJrZXIiOiBudWxsfQ=="} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS("testdata/corpus/sound-reference-hardened")); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, fileIAM)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var members map[string]any
		if err := json.Unmarshal(data, &members); err != nil {
			t.Fatal(err)
		}
		members[member] = value
		if data, err = json.Marshal(members); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadAccount(dir); err == nil || !strings.Contains(err.Error(), "one page of it") {
			t.Errorf("%s: want an error about a page, got %v", member, err)
		}
	}
}
