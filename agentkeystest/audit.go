package agentkeystest

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"agentkeys/anchor"
	"agentkeys/audit"
	"agentkeys/token"
)

// auditLog makes the audit log of the broker, and opens the file of its heads.
func (k *Broker) auditLog(t testing.TB, p Parts) *anchor.Checkpoints {
	t.Helper()
	k.AuditKey, k.HeadsFile = p.AuditKey, p.HeadsFile
	var err error
	if k.AuditKey == nil {
		k.AuditKey, err = token.GenerateAuditKey()
		check(t, err)
	}
	if k.HeadsFile == "" {
		k.HeadsFile = filepath.Join(t.TempDir(), "heads")
		check(t, anchor.CreateCheckpoints(k.HeadsFile))
	}
	k.Audit = NewLog(t, k.Issuer, k.AuditKey)
	heads, err := anchor.OpenCheckpoints(k.HeadsFile, k.Clock.Now)
	check(t, err)
	t.Cleanup(func() { check(t, heads.Close()) })
	return heads
}

// NewLog is the audit log of an issuer by a key.
func NewLog(t testing.TB, issuer string, key *token.AuditKey) *audit.Log {
	t.Helper()
	origin, err := token.AuditOrigin(issuer)
	check(t, err)
	signer, err := key.Signer(origin)
	check(t, err)
	text, err := key.Verifier(origin)
	check(t, err)
	verifier, err := note.NewVerifier(text)
	check(t, err)
	log, err := audit.NewLog(origin, signer, verifier)
	check(t, err)
	return log
}

// Head gives every record that there is its place in the audit log, as the broker does
// within a second, and returns the head.
func (k *Broker) Head(t testing.TB) audit.Checkpoint {
	t.Helper()
	var head audit.Checkpoint
	for more := true; more; {
		check(t, k.Store.Update(t.Context(), func(tx *sql.Tx) (err error) {
			head, more, err = k.Audit.Extend(t.Context(), tx, 1000)
			return err
		}))
	}
	return head
}

// start runs what the broker does beside answering. It begins with the first request:
// until then a test may change the broker.
func (k *Broker) start() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		k.Broker.Run(ctx)
	}()
	k.stop = func() {
		cancel()
		<-ended
	}
}

// Stop ends Broker.Run, by when the last head is published. Requests that come later
// are answered without it. To call it again is fine.
func (k *Broker) Stop() {
	k.run.Do(func() {}) // whoever started it is done
	k.stopping.Do(func() {
		if k.stop != nil {
			k.stop()
		}
	})
}

// Seen reads the file of heads.
func (k *Broker) Seen(t testing.TB) (seen []anchor.Seen) {
	t.Helper()
	f, err := os.Open(k.HeadsFile)
	check(t, err)
	defer f.Close()
	for s, err := range anchor.ReadCheckpoints(f) {
		check(t, err)
		seen = append(seen, s)
	}
	return seen
}
