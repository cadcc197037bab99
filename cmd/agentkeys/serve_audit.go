package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"agentkeys/anchor"
	"agentkeys/audit"
	"agentkeys/broker"
	"agentkeys/config"
	"agentkeys/identity"
	"agentkeys/store"
	"agentkeys/token"
)

// headsFile is the name of the file of heads inside the data folder, unless
// BROKER_AUDIT_HEADS_FILE says otherwise.
const headsFile = "heads"

// auditLog is the audit log of an issuer, which the key signs, and which old keys have
// signed.
func auditLog(c config.Config, key *token.AuditKey) (*audit.Log, error) {
	origin, err := token.AuditOrigin(c.Issuer)
	if err != nil {
		return nil, err
	}
	signer, err := key.Signer(origin)
	if err != nil {
		return nil, err
	}
	own, err := key.Verifier(origin)
	if err != nil {
		return nil, err
	}
	var verifiers []note.Verifier
	for _, text := range append([]string{own}, c.AuditOldKeys...) {
		v, err := note.NewVerifier(text)
		if err != nil {
			return nil, fmt.Errorf("reading a verifier key of the audit log: %w", err)
		}
		verifiers = append(verifiers, v)
	}
	return audit.NewLog(origin, signer, verifiers...)
}

// auditors are the identities "type:value" that the configuration let through.
func auditors(names []string) []identity.Identity {
	var ids []identity.Identity
	for _, name := range names {
		kind, value, _ := strings.Cut(name, ":")
		ids = append(ids, identity.Identity{Type: identity.Type(kind), Value: value})
	}
	return ids
}

// auditFiles are the files that the audit log is held against at the start, and that
// it is written to.
type auditFiles struct {
	heads       *anchor.Checkpoints
	file        *anchor.File        // nil where it is no anchor
	checkpoints *anchor.Checkpoints // likewise
}

// openAuditFiles opens them for this process alone.
func openAuditFiles(c config.Config) (f *auditFiles, err error) {
	f = &auditFiles{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	path := cmp.Or(c.HeadsFile, filepath.Join(c.DataDir, headsFile))
	if f.heads, err = anchor.OpenCheckpoints(path, time.Now); err != nil {
		if errors.Is(err, fs.ErrNotExist) { // its command is another than that of the checkpoints
			err = fmt.Errorf("opening file of heads %q: %w", path, fs.ErrNotExist)
		}
		return f, auditFileHint(err, "for a broker that never had one, agentkeys init --heads-file "+path+" makes it; if there was one, find it: it shows that the log was not cut")
	}
	if c.AnchorFile != "" {
		if f.file, err = anchor.OpenFile(c.AnchorFile); err != nil {
			return f, auditFileHint(err, "if there was one, find out where it went before you make another: it held the records")
		}
	}
	if c.CheckpointsFile != "" {
		if f.checkpoints, err = anchor.OpenCheckpoints(c.CheckpointsFile, time.Now); err != nil {
			return f, auditFileHint(err, "if there was one, find out where it went before you make another: it held the heads")
		}
	}
	return f, nil
}

// beforeUpgrade wants the files of the audit log to be usable before the database of an
// earlier release is upgraded: that release can still serve it, and not once it was.
func beforeUpgrade(c config.Config) store.Option {
	return store.BeforeUpgrade(func() error {
		files, err := openAuditFiles(c)
		if err != nil {
			return err
		}
		return files.close()
	})
}

func auditFileHint(err error, missing string) error {
	switch {
	case errors.Is(err, anchor.ErrInUse):
		return hint{err, "stop the other broker first; one file has one"}
	case errors.Is(err, fs.ErrNotExist):
		return hint{err, missing}
	}
	return err
}

func (f *auditFiles) close() error {
	var errs []error
	if f.heads != nil {
		errs = append(errs, f.heads.Close())
	}
	if f.file != nil {
		errs = append(errs, f.file.Close())
	}
	if f.checkpoints != nil {
		errs = append(errs, f.checkpoints.Close())
	}
	return errors.Join(errs...)
}

// into has a broker write to the files.
func (f *auditFiles) into(c *broker.Config) {
	c.Heads, c.LookAtHeads = f.heads.Publish, f.heads.Look
	if f.file != nil {
		c.Anchors = append(c.Anchors, broker.Anchor{Name: f.file.Name(), Put: f.file.Put, Look: f.file.Look, Has: func() int64 {
			last, _ := f.file.Last()
			return last.Place
		}})
	}
	if f.checkpoints != nil {
		c.Anchors = append(c.Anchors, broker.Anchor{Name: f.checkpoints.Name(), Publish: f.checkpoints.Publish, Look: f.checkpoints.Look, Has: func() int64 {
			last, _ := f.checkpoints.Last()
			return last.Size
		}})
	}
}

// checkAudit holds the audit log in the database against itself, and against all that
// was seen of it outside.
func checkAudit(ctx context.Context, db *store.Store, log *audit.Log, f *auditFiles) error {
	err := db.View(ctx, func(tx *sql.Tx) error {
		head, err := log.Check(ctx, tx)
		if err != nil && !errors.Is(err, audit.ErrEmpty) {
			return err
		}
		if err := f.extendedBy(ctx, tx, log, head); err != nil {
			return err
		}
		return f.recordedIn(ctx, tx, head)
	})
	var unsigned *note.UnverifiedNoteError
	if errors.As(err, &unsigned) {
		return hint{err, `if the audit key was changed, put the verifier key of the one before into BROKER_AUDIT_OLD_KEYS; see "Changing the audit key" in docs/runbook.md`}
	}
	if err == nil {
		err = unchanged(ctx, db)
	}
	if err != nil {
		return hint{err, `do not make another file or database in its place; see "The audit log does not extend what was seen of it" in docs/runbook.md`}
	}
	return nil
}

// unchanged refuses a database whose schema somebody changed: a trigger in it can keep a
// record from being written, and nobody hears of it.
func unchanged(ctx context.Context, db *store.Store) error {
	changes, err := db.SchemaChanges(ctx)
	if err == nil && len(changes) > 0 {
		err = fmt.Errorf("the schema of the database is not as it was made: %s", strings.Join(changes, ", "))
	}
	return err
}

// extendedBy wants the log to extend the newest heads in the files.
func (f *auditFiles) extendedBy(ctx context.Context, tx *sql.Tx, log *audit.Log, head audit.Checkpoint) error {
	for _, file := range []*anchor.Checkpoints{f.heads, f.checkpoints} {
		if file == nil {
			continue
		}
		last, some := file.Last()
		if !some {
			continue
		}
		seen, err := log.Open(last.Note)
		if err == nil {
			err = log.Extends(ctx, tx, head, seen)
		}
		if err != nil {
			return fmt.Errorf("the audit log does not extend the newest head in %q, of %s: %w", file.Path(), last.Time.Format(time.RFC3339), err)
		}
	}
	return nil
}

// recordedIn wants the log to have the newest record of the anchor file: in the
// database or, once it was pruned, in the tree.
func (f *auditFiles) recordedIn(ctx context.Context, tx *sql.Tx, head audit.Checkpoint) error {
	if f.file == nil {
		return nil
	}
	last, some := f.file.Last()
	if !some {
		return nil
	}
	hash, err := hashAt(ctx, tx, head, last.Place)
	if err == nil && hash != last.Hash {
		err = fmt.Errorf("want the hash %s, got %s in the database: it was forked", last.Hash, hash)
	}
	if err != nil {
		return fmt.Errorf("the audit log does not extend the anchor file %q, which ends with the record at place %d: %w", f.file.Path(), last.Place, err)
	}
	return nil
}

// hashAt is that of the leaf at a place.
func hashAt(ctx context.Context, tx *sql.Tx, head audit.Checkpoint, place int64) (audit.Digest, error) {
	e, err := audit.AtPlace(ctx, tx, place)
	switch {
	case err == nil:
		return e.LeafHash(e.Digest()), nil
	case !errors.Is(err, sql.ErrNoRows):
		return audit.Digest{}, err
	case place > head.Size:
		return audit.Digest{}, errors.New("the database has none there: it was cut or put back to an earlier copy")
	}
	return audit.LeafAt(ctx, tx, head, place)
}
