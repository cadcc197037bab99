// Package landed has what the releases of AgentKeys left behind: a database of each
// schema that a landed commit made, with the keys and files that its broker had, and
// what that broker said of it. It is for tests alone, and imports nothing that they test
// but the words of the API.
//
// A release goes by the version of its schema: 1 is commit ab54db9, 2 is 7e59149, 4 is
// 23c77b9, 5 is 86f2ad1, and 6 is the one that finds calls by digests. None had version
// 3. The one with 4 made its tables of grants and mints by a migration 0002 that said the
// same in other words.
//
// The databases are texts, as sqlite3's .dump writes them. The keys were made for them
// and are used nowhere else. TestLandedStory of cmd/agentkeys makes such a folder with the
// program of a release, and tells what happened to it.
package landed

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // reads the dumps

	"agentkeys/api"
)

//go:embed testdata
var files embed.FS

// The files of a release beside its database. Those that its broker did not know are
// not there.
const (
	Database = "agentkeys.db"
	Dump     = "agentkeys.sql" // of the database
	StoryOf  = "story.json"    // the Story
)

// Story is what the broker of a release said last, before it was killed.
type Story struct {
	Issuer   string            `json:"issuer"`
	Time     time.Time         `json:"time"`             // when it was killed
	Sessions map[string]string `json:"sessions"`         // by the name of the wallet's file without .key
	Grants   []api.Grant       `json:"grants,omitempty"` // alice's, the newest first
	Kept     *Call             `json:"kept,omitempty"`   // the last call that credentials were given for
	Cut      *Call             `json:"cut,omitempty"`    // the call that STS was asked for as it was killed
}

// Call is a call for AWS credentials as bob sent it, and what is known of the answer.
type Call struct {
	Key         string             `json:"idempotency_key"`
	Request     api.MintAWSRequest `json:"request"`
	RecordID    string             `json:"record_id,omitempty"`
	AccessKeyID string             `json:"access_key_id,omitempty"`
}

// Releases names the releases, in order: each by the version of its schema.
func Releases() ([]string, error) {
	entries, err := files.ReadDir("testdata")
	if err == nil && len(entries) == 0 {
		err = errors.New("no release landed")
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// Restore puts the files of a release into a folder that is there, of mode 0600, with the
// database made from its dump, and returns the story.
func Restore(ctx context.Context, release, dir string) (s Story, err error) {
	from := path.Join("testdata", release)
	entries, err := files.ReadDir(from)
	if err != nil {
		return s, err
	}
	for _, e := range entries {
		data, err := files.ReadFile(path.Join(from, e.Name()))
		if err != nil {
			return s, err
		}
		switch e.Name() {
		case Dump:
			err = Load(ctx, filepath.Join(dir, Database), string(data))
		case StoryOf:
			err = json.Unmarshal(data, &s)
		default:
			err = os.WriteFile(filepath.Join(dir, e.Name()), data, 0o600)
		}
		if err != nil {
			return s, fmt.Errorf("restoring %s of release %s: %w", e.Name(), release, err)
		}
	}
	return s, nil
}

// Load makes a new database at path from a dump, in WAL mode as a broker leaves it.
func Load(ctx context.Context, path, dump string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1) // a dump is one transaction, over many statements
	_, err = db.ExecContext(ctx, dump+"\nPRAGMA journal_mode = wal;")
	return err
}
