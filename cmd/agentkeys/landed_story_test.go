//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"agentkeys/agentkeystest/landed"
	"agentkeys/api"
	"agentkeys/client"
)

var (
	landedProgram = flag.String("landed-program", "", "`FILE` of the program of a release, whose story is to be kept")
	landedFolder  = flag.String("landed-folder", "", "`FOLDER` to keep it in, which is made")
)

// A landedRelease is a program with the folder that it keeps its state in.
type landedRelease struct {
	binary, dir, issuer, aws string
	grants, log              bool // whether it knows grants, and a log with a tree
	story                    landed.Story
	alice, bob               *client.Wallet
}

// TestLandedStory does with a program what package landed keeps of each release: people
// sign in, mint, grant, revoke and are refused, one is erased, and the program is killed
// while it waits for STS. Without flags it does so with the program of today, so that
// the story can be told again when the next release lands.
func TestLandedStory(t *testing.T) {
	if sqlite3 == "" {
		t.Skip("sqlite3 is not here, nor what make test installs it with")
	}
	r := &landedRelease{binary: *landedProgram, dir: filepath.Join(t.TempDir(), "state"), issuer: "http://127.0.0.1:8091", aws: freeAddress(t)}
	if r.binary == "" {
		r.binary, r.issuer = build(t), "http://"+freeAddress(t)
	}
	r.grants, r.log = r.knows("creds"), r.knows("audit", "erase")
	r.live(t)
	if r.log {
		r.run(t, "audit", "erase", "--data-dir", r.dir, "--identity", "evm:"+strings.ToLower(r.wallet(t, "carol").Address()))
	}
	r.diesWaiting(t)
	kept := *landedFolder
	if kept == "" {
		kept = filepath.Join(t.TempDir(), "kept")
	}
	r.keep(t, kept)
	r.wantWhole(t, kept)
}

// freeAddress is a loopback address whose port is free.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (r *landedRelease) knows(args ...string) bool {
	out, err := exec.Command(r.binary, append(args, "--help")...).CombinedOutput()
	return err == nil && strings.Contains(string(out), "agentkeys "+strings.Join(args, " "))
}

func (r *landedRelease) run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), r.binary, args...).CombinedOutput(); err != nil {
		t.Fatalf("agentkeys %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (r *landedRelease) path(name string) string { return filepath.Join(r.dir, name) }

// wallet reads the key of a name, or makes it.
func (r *landedRelease) wallet(t *testing.T, name string) *client.Wallet {
	t.Helper()
	if _, err := os.Stat(r.path(name + ".key")); errors.Is(err, fs.ErrNotExist) {
		w, err := client.NewWallet()
		if err == nil {
			err = client.WriteWalletFile(r.path(name+".key"), w)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w, err := client.ReadWalletFile(r.path(name + ".key"))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// live has the program run with a local AWS while people use it, and ends it in order.
func (r *landedRelease) live(t *testing.T) {
	t.Helper()
	s := startServed(t, exec.Command(r.binary, "dev", "--dir", r.dir, "--broker", strings.TrimPrefix(r.issuer, "http://"), "--aws", r.aws), r.issuer)
	r.alice, r.bob = r.wallet(t, "alice"), r.wallet(t, "bob")
	r.story = landed.Story{Issuer: r.issuer, Sessions: map[string]string{}}
	for name, w := range map[string]*client.Wallet{"alice": r.alice, "bob": r.bob, "carol": r.wallet(t, "carol")} {
		session, err := s.client.SignIn(t.Context(), w, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.client.MintOIDC(t.Context(), session.SessionJWT); err != nil {
			t.Fatal(err)
		}
		r.story.Sessions[name] = session.SessionJWT
	}
	delete(r.story.Sessions, "carol")
	if _, err := s.client.MintOIDC(t.Context(), "no session"); err == nil {
		t.Fatal("a token for nobody")
	}
	if _, err := s.client.StartWallet(t.Context(), r.alice.Address(), 1); err != nil { // and never goes on
		t.Fatal(err)
	}
	if r.grants {
		r.grant(t, s.client)
	}
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-s.ended; err != nil {
		t.Fatalf("the program ended with %v\n%s", err, s.log)
	}
	s.ended <- nil
}

// grant makes a grant of each kind, and uses them.
func (r *landedRelease) grant(t *testing.T, c *client.Client) {
	t.Helper()
	ids := map[string]string{}
	for path, uses := range map[string]int64{"reports": 5, "archive": 3, "once": 1, "mail/inbox": 100} {
		req := api.GrantCreateRequest{DaemonAddress: r.bob.Address(), Service: "s3", ScopePath: path,
			ExpiresAt: time.Now().Add(30 * 24 * time.Hour).Unix(), MaxUses: uses, Actions: []string{"list", "get", "put"}}
		if path == "mail/inbox" {
			req.Actions = nil
		}
		g, err := c.GrantCreate(t.Context(), r.story.Sessions["alice"], req)
		if err != nil {
			t.Fatal(err)
		}
		ids[path] = g.GrantID
	}
	r.mint(t, c, ids, "once", "")
	r.mint(t, c, ids, "once", api.CodeGrantExhausted)
	r.mint(t, c, ids, "archive", "")
	if _, err := c.GrantRevoke(t.Context(), r.story.Sessions["alice"], ids["archive"]); err != nil {
		t.Fatal(err)
	}
	r.mint(t, c, ids, "archive", api.CodeGrantRevoked)
	r.mint(t, c, ids, "reports", "")
	r.story.Kept = r.mint(t, c, ids, "reports", "")
	r.story.Cut = r.call(t, ids["reports"], "reports")
}

// call is one of bob's, signed and not sent.
func (r *landedRelease) call(t *testing.T, grantID, path string) *landed.Call {
	t.Helper()
	signed, err := client.SignCall(r.bob, "POST", r.issuer+api.PathMintAWS, api.MintAWSRequest{
		RequestID: rand.Text(), IssuedAt: api.Timestamp{Time: time.Now().Truncate(time.Second)},
		Intent: api.Intent{AgentID: "nightly", Service: "s3", ScopePath: path, GrantID: grantID}})
	if err != nil {
		t.Fatal(err)
	}
	return &landed.Call{Key: rand.Text(), Request: signed}
}

// mint asks for credentials under a grant, and wants them or the refusal.
func (r *landedRelease) mint(t *testing.T, c *client.Client, ids map[string]string, path string, want api.Code) *landed.Call {
	t.Helper()
	call := r.call(t, ids[path], path)
	given, err := c.SendMintAWS(t.Context(), r.story.Sessions["bob"], call.Request, call.Key)
	var refused *api.Error
	if errors.As(err, &refused) && refused.Code == want {
		return nil
	}
	if err != nil || want != "" {
		t.Fatalf("%s: %v, want %q", path, err, want)
	}
	call.RecordID, call.AccessKeyID = given.AuditRecordID, given.AccessKeyID
	return call
}

// diesWaiting has the program serve with an STS that never answers, and kills it. Until
// then what its broker says of the grants is kept.
func (r *landedRelease) diesWaiting(t *testing.T) {
	t.Helper()
	sts, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sts.Close()
	s := startServed(t, r.serve(t, "http://"+sts.Addr().String()), r.issuer)
	if r.grants {
		page, err := s.client.GrantList(t.Context(), r.story.Sessions["alice"], "", 0)
		if err != nil {
			t.Fatal(err)
		}
		r.story.Grants = page.Grants
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { // ended by cancel
			_, err := s.client.SendMintAWS(ctx, r.story.Sessions["bob"], r.story.Cut.Request, r.story.Cut.Key)
			ended <- err
		}()
		asked, err := sts.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer asked.Close()
		s.kill(t)
		cancel()
		if err := <-ended; err == nil {
			t.Fatal("credentials from nowhere")
		}
	}
	s.kill(t)
	r.story.Time = time.Now().UTC().Truncate(time.Millisecond)
}

// serve is the command that serves the state, with all that its release knows.
func (r *landedRelease) serve(t *testing.T, sts string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(r.binary, "serve")
	cmd.Env = []string{"BROKER_ISSUER=" + r.issuer, "BROKER_BIND=" + strings.TrimPrefix(r.issuer, "http://"), "BROKER_DATA_DIR=" + r.dir,
		"BROKER_OIDC_KEY_FILE=" + r.path(oidcKeyFile), "BROKER_SESSION_KEY_FILE=" + r.path(sessionKeyFile)}
	if r.grants {
		r.run(t, "init", "--anchor-file", r.path("anchor.jsonl"))
		cmd.Env = append(cmd.Env, "BROKER_AWS_ACCOUNT="+localAccount, "BROKER_AWS_REGION="+localRegion, "BROKER_AWS_BUCKET="+devBucket,
			"BROKER_AWS_STS_ENDPOINT="+sts, "BROKER_AUDIT_ANCHORS=sqlite,file", "BROKER_AUDIT_ANCHOR_FILE="+r.path("anchor.jsonl"))
	}
	if r.log {
		cmd.Env = append(cmd.Env, "BROKER_AUDIT_KEY_FILE="+r.path(auditKeyFile))
	}
	return cmd
}

// keep puts the dump, the story and the files of the broker into a new folder.
func (r *landedRelease) keep(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	dump, err := exec.CommandContext(t.Context(), sqlite3, r.path(databaseFile), "PRAGMA application_id", "PRAGMA user_version", ".dump").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%.2000s", err, dump)
	}
	lines := strings.SplitN(string(dump), "\n", 3)
	story, err := json.MarshalIndent(r.story, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text := "-- What .dump leaves out:\nPRAGMA application_id = " + lines[0] + ";\nPRAGMA user_version = " + lines[1] + ";\n" + lines[2]
	contents := map[string][]byte{landed.Dump: []byte(text), landed.StoryOf: append(story, '\n')}
	for _, name := range []string{oidcKeyFile, sessionKeyFile, auditKeyFile, headsFile, "anchor.jsonl", "alice.key", "bob.key"} {
		data, err := os.ReadFile(r.path(name))
		if err == nil {
			contents[name] = data
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	for name, data := range contents {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// wantWhole wants nothing in what is kept that it must not have, and all that happened.
func (r *landedRelease) wantWhole(t *testing.T, dir string) {
	t.Helper()
	dump, err := os.ReadFile(filepath.Join(dir, landed.Dump))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), landed.Database)
	if err := landed.Load(t.Context(), path, string(dump)); err != nil {
		t.Fatal(err)
	}
	again, err := exec.CommandContext(t.Context(), sqlite3, "-readonly", path, ".dump").Output()
	if err != nil || !strings.HasSuffix(string(dump), string(again)) {
		t.Errorf("the dump of what was made from the dump is another (%v)", err)
	}
	if carol := strings.ToLower(r.wallet(t, "carol").Address()); r.log && strings.Contains(strings.ToLower(string(dump)), carol) {
		t.Error("carol was erased, and is there")
	}
	statuses := []string{}
	for _, g := range r.story.Grants {
		statuses = append(statuses, g.Status)
	}
	slices.Sort(statuses)
	if want := []string{"active", "active", "exhausted", "revoked"}; r.grants && !slices.Equal(statuses, want) {
		t.Errorf("grants are %q, want %q", statuses, want)
	}
	if strings.Contains(string(dump), os.TempDir()) {
		t.Error("the dump names a folder of this machine")
	}
}
