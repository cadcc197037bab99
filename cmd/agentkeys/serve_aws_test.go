package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/config"
	"agentkeys/store"
)

// What the configuration says of AWS is what STS is asked for: the role's ARN in the
// region's partition, and a token whose subject is the daemon and whose tag is the
// owner.
func TestAssembleTakesTheAWSAccount(t *testing.T) {
	dir := t.TempDir()
	if err := createLocal(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	c := localConfig(dir, "http://127.0.0.1:8091")
	keys, err := loadKeys(c)
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	parts, _, err := assemble(c, keys, nil, log)
	if err != nil || parts.AWS != nil || !strings.Contains(logged.String(), "no AWS credentials are minted") {
		t.Errorf("without an account: %v, %+v, and the log says %s", err, parts.AWS, logged.String())
	}
	c.AWS = config.AWS{Account: localAccount, Region: "cn-north-1", Role: "data", Bucket: "acme-agent-mail", Prefix: "bots"}
	if parts, _, err = assemble(c, keys, nil, log); err != nil {
		t.Fatal(err)
	}
	if want := "arn:aws-cn:iam::111122223333:role/data"; parts.AWS.RoleARN != want || parts.AWS.Target.Partition != "aws-cn" || parts.AWS.Session != time.Hour {
		t.Errorf("got %+v, want the role %s and sessions of an hour", parts.AWS, want)
	}
	const daemon, owner = "0x1111111111111111111111111111111111111aaa", "0x2222222222222222222222222222222222222bbb"
	jwt, _, err := parts.AWS.Token(daemon, owner, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(jwt.Reveal(), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"sub":"agentkeys:agent:` + daemon + `"`, `"agentkeys_user_wallet":["` + owner + `"]`} {
		if !strings.Contains(string(payload), want) {
			t.Errorf("the token does not say %s: %s", want, payload)
		}
	}
	c.AWS.Bucket = "xn--acme" // a beginning that AWS keeps for itself
	if _, _, err = assemble(c, keys, nil, log); err == nil || !strings.Contains(err.Error(), "bucket") {
		t.Errorf("with a bucket that AWS does not give: %v", err)
	}
}

// A mint that an earlier process left without an outcome has one before the broker
// serves: nothing of it was released.
func TestServeSettlesWhatWasLeft(t *testing.T) {
	dir := t.TempDir()
	if err := createLocal(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	intent := audit.Record{Time: time.Now(), Action: "mint.aws_credentials", Outcome: audit.Pending, RequestID: "r", OmniAccount: strings.Repeat("a", 64)}
	withStore(t, dir, func(db *store.Store) error {
		return db.Update(t.Context(), func(tx *sql.Tx) error {
			if err := audit.Append(t.Context(), tx, &intent); err != nil {
				return err
			}
			_, err := tx.ExecContext(t.Context(), `INSERT INTO mints (call_digest, caller, request_id, body_hash, record_id, state, settle_by, forget_at)
				VALUES (randomblob(16), $1, 'call-1', $2, $3, 'pending', $4, $4)`, intent.OmniAccount, make([]byte, 32), intent.ID, time.Now().Add(time.Hour).UnixMilli())
			return err
		})
	})
	l, err := listen("127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	c := localConfig(dir, "http://"+l.Addr().String())
	c.Bind, c.ShutdownGrace, c.LogFormat, c.LogLevel = l.Addr().String(), time.Second, "json", "info"
	if err := l.Close(); err != nil { // serve takes the port
		t.Fatal(err)
	}
	serveUntilReady(t, c)
	withStore(t, dir, func(db *store.Store) error {
		return db.View(t.Context(), func(tx *sql.Tx) error {
			records, err := audit.Find(t.Context(), tx, audit.Query{Limit: 20})
			settles := func(r audit.Entry) bool { return r.Settles == intent.ID && r.Outcome == audit.Quarantined }
			if err == nil && !slices.ContainsFunc(records, settles) {
				t.Errorf("got %+v, want the outcome of %s", records, intent.ID)
			}
			return err
		})
	})
}

func withStore(t *testing.T, dir string, do func(*store.Store) error) {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(dir, databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := do(db); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// serveUntilReady runs a broker until it has answered that it is ready, and waits for
// its end.
func serveUntilReady(t *testing.T, c config.Config) {
	t.Helper()
	serving := make(chan struct{})
	ended := make(chan error, 1)
	p := &program{environ: []string{"GOGC=100"}, stdout: io.Discard, stderr: &servingLog{seen: serving}}
	stop := background(t.Context(), func(ctx context.Context) { ended <- p.runServe(ctx, c, false) })
	select {
	case <-serving:
	case err := <-ended:
		t.Fatalf("serve ended: %v", err)
	}
	resp, err := http.Get(c.Issuer + api.PathReady)
	if err != nil {
		t.Error(err)
	} else {
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("readyz answered %s", resp.Status)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// servingLog closes seen with the line that says that the broker serves.
type servingLog struct{ seen chan struct{} }

func (l *servingLog) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(`"msg":"serving"`)) {
		close(l.seen)
	}
	return len(line), nil
}
