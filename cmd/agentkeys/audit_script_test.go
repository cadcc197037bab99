package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"agentkeys/audit"
	"agentkeys/store"
	"agentkeys/token"

	"golang.org/x/mod/sumdb/note"
)

// signHeads is a program for the stories: DIR KEYFILE ISSUER. It gives the records of a
// broker that was stopped their place in the tree, and signs the head, as the broker
// does while it runs: so a story need not wait for it.
func signHeads() {
	if err := signHead(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "signheads:", err)
		os.Exit(1)
	}
}

func signHead(args []string) (err error) {
	if len(args) != 3 {
		return fmt.Errorf("want DIR KEYFILE ISSUER, got %q", args)
	}
	key, err := token.LoadAuditKeyFile(args[1])
	if err != nil {
		return err
	}
	origin, err := token.AuditOrigin(args[2])
	if err != nil {
		return err
	}
	l, err := auditLogOf(key, origin)
	if err != nil {
		return err
	}
	ctx := context.Background()
	db, err := store.Open(ctx, filepath.Join(args[0], databaseFile))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for more := true; more && err == nil; {
		err = db.Update(ctx, func(tx *sql.Tx) (err error) {
			_, more, err = l.Extend(ctx, tx, 1000)
			return err
		})
	}
	return err
}

// auditLogOf is the log of an origin with the one key.
func auditLogOf(key *token.AuditKey, origin string) (*audit.Log, error) {
	signer, err := key.Signer(origin)
	if err != nil {
		return nil, err
	}
	text, err := key.Verifier(origin)
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(text)
	if err != nil {
		return nil, err
	}
	return audit.NewLog(origin, signer, verifier)
}
