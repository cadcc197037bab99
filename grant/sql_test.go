package grant

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"agentkeys/identity"
	"agentkeys/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const longestLife = 365 * 24 * time.Hour

var (
	alice = identity.Identity{Type: identity.EVM, Value: walletA}
	bob   = identity.Identity{Type: identity.EVM, Value: walletB}
	carol = identity.Identity{Type: identity.Email, Value: "carol@example.com"}
)

func newStore(t testing.TB) *store.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	if err := store.Create(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// terms are good ones; a change makes them others.
func terms(changes ...func(*Terms)) Terms {
	t := Terms{Daemon: daemonD, Service: S3, Path: "reports", ExpiresAt: end, MaxUses: 3}
	for _, change := range changes {
		change(&t)
	}
	return t
}

func under(path string) func(*Terms)       { return func(t *Terms) { t.Path = path } }
func until(end time.Time) func(*Terms)     { return func(t *Terms) { t.ExpiresAt = end } }
func uses(n int64) func(*Terms)            { return func(t *Terms) { t.MaxUses = n } }
func to(daemon string) func(*Terms)        { return func(t *Terms) { t.Daemon = daemon } }
func doing(actions ...string) func(*Terms) { return func(t *Terms) { t.Actions = actions } }

func add(t testing.TB, s *store.Store, owner identity.Identity, changes ...func(*Terms)) Grant {
	t.Helper()
	g, err := New(owner, terms(changes...), longestLife, noon)
	if err == nil {
		err = s.Update(t.Context(), func(tx *sql.Tx) error { return Insert(t.Context(), tx, g) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func find(t testing.TB, s *store.Store, r Request, now time.Time) (g Grant, err error) {
	t.Helper()
	err = s.View(t.Context(), func(tx *sql.Tx) (err error) {
		g, err = Find(t.Context(), tx, r, now)
		return err
	})
	return g, err
}

func use(t testing.TB, s *store.Store, g Grant, now time.Time) error {
	t.Helper()
	return s.Update(t.Context(), func(tx *sql.Tx) error { return Use(t.Context(), tx, g, "01ARZ3NDEKTSV4RRFFQ69G5FAV", now) })
}

func revoke(t testing.TB, s *store.Store, owner identity.Identity, id string, now time.Time) (g Grant, first bool, err error) {
	t.Helper()
	err = s.Update(t.Context(), func(tx *sql.Tx) (err error) {
		g, first, err = Revoke(t.Context(), tx, owner.OmniAccount(), id, now)
		return err
	})
	return g, first, err
}

func byID(t testing.TB, s *store.Store, id string) Grant {
	t.Helper()
	var g Grant
	err := s.View(t.Context(), func(tx *sql.Tx) (err error) {
		g, err = ByID(t.Context(), tx, id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func run(t testing.TB, s *store.Store, query string, args ...any) error {
	t.Helper()
	return s.Update(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), query, args...)
		return err
	})
}

func mustRun(t testing.TB, s *store.Store, query string, args ...any) {
	t.Helper()
	if err := run(t, s, query, args...); err != nil {
		t.Fatal(err)
	}
}

// codeOf is the code of a refusal, "" of none, and "error" of any other error.
func codeOf(err error) string {
	var refusal *Error
	switch {
	case errors.As(err, &refusal):
		return refusal.Code
	case err != nil:
		return "error"
	}
	return ""
}

func wantCode(t testing.TB, what string, err error, code string) {
	t.Helper()
	if codeOf(err) != code {
		t.Errorf("%s: %v, want code %q", what, err, code)
	}
}

func asking(path Path) Request { return Request{Daemon: daemonD, Service: S3, Path: path} }

func named(r Request, id string) Request {
	r.GrantID = id
	return r
}

func TestNew(t *testing.T) {
	for _, owner := range []identity.Identity{alice, carol} {
		got, err := New(owner, terms(to(identity.Checksum(daemonD)), under("reports/"), until(end.Add(999*time.Millisecond).In(time.FixedZone("", 3600)))), longestLife, noon.Add(1500*time.Microsecond))
		if err != nil {
			t.Fatal(err)
		}
		want := Grant{ID: got.ID, Owner: owner.OmniAccount(), Tenant: owner.TenantTag(), Daemon: daemonD, Service: S3, Path: "reports",
			Actions: AllActions(), CreatedAt: noon.Add(time.Millisecond), ExpiresAt: end, MaxUses: 3}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("grant (-want +got):\n%s", diff)
		}
		if len(got.ID) != 20 || !strings.HasPrefix(got.ID, "grn-") {
			t.Errorf("id %q", got.ID)
		}
		if name := SessionName(got.Daemon, got.ID); len(name) > 64 || name != daemonD+"@"+got.ID || SessionName(daemonD, "") != daemonD {
			t.Errorf("session name %q", name)
		}
		s := newStore(t)
		if err := s.Update(t.Context(), func(tx *sql.Tx) error { return Insert(t.Context(), tx, got) }); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, byID(t, s, got.ID)); diff != "" {
			t.Errorf("what was kept (-want +got):\n%s", diff)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Terms)
		want   string
	}{
		"no daemon":              {to(""), "daemon_address: "},
		"daemon without 0x":      {to(daemonD[2:]), "daemon_address: "},
		"daemon misspelt":        {to("0xDE709f2102306220921060314715629080e2fb77"), "daemon_address: EVM address fails its checksum"},
		"no service":             {func(t *Terms) { t.Service = "" }, `service: want "s3", got ""`},
		"other service":          {func(t *Terms) { t.Service = "S3" }, `service: want "s3", got "S3"`},
		"no path":                {under(""), "scope_path: "},
		"path of a tenant":       {under(walletB + "/a"), "scope_path: want a path under the owner's own prefix"},
		"path climbs":            {under("../" + "a"), "scope_path: "},
		"unknown action":         {doing("get", "admin"), `actions: want each of list, get, put, delete at most once, got "admin"`},
		"action in capitals":     {doing("GET"), `got "GET"`},
		"action twice":           {doing("get", "put", "get"), `got "get"`},
		"empty action":           {doing(""), `got ""`},
		"star":                   {doing("*"), `got "*"`},
		"no end":                 {until(time.Time{}), "expires_at: want a time after 2030-01-02T12:00:00Z"},
		"ends now":               {until(noon), "expires_at: want a time after"},
		"ends within the second": {until(noon.Add(999 * time.Millisecond)), "expires_at: want a time after"},
		"ended":                  {until(noon.Add(-time.Second)), "expires_at: want a time after"},
		"too long":               {until(noon.Add(longestLife + time.Second)), "not after 2031-01-02T12:00:00Z, got 2031-01-02T12:00:01Z"},
		"end of all times":       {until(time.Unix(1<<62, 0)), "expires_at: "},
		"no uses":                {uses(0), "max_uses: want 1 to 1000000000, got 0"},
		"fewer uses":             {uses(-1), "max_uses: want 1 to 1000000000, got -1"},
		"too many uses":          {uses(MaxUses + 1), "got 1000000001"},
	} {
		g, err := New(alice, terms(tt.change), longestLife, noon)
		if codeOf(err) != CodeInvalid || !strings.Contains(err.Error(), tt.want) || g.ID != "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s with %q", name, err, CodeInvalid, tt.want)
		}
	}
	for _, good := range []Terms{terms(until(noon.Add(time.Second))), terms(until(noon.Add(longestLife))), terms(uses(MaxUses)), terms(uses(1)), terms(under("/"))} {
		if _, err := New(alice, good, longestLife, noon); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
}

func TestActionsKeepTheirOrder(t *testing.T) {
	s := newStore(t)
	g := add(t, s, alice, doing("delete", "get"))
	if got := byID(t, s, g.ID).Actions; g.Actions.String() != "get,delete" || !slices.Equal(got, g.Actions) {
		t.Errorf("actions %s, in the database %s, want get,delete", g.Actions, got)
	}
}

// Which refusal wins where several apply: another daemon's, revoked, expired, out of
// scope, exhausted.
func TestCheckOrder(t *testing.T) {
	good := Grant{ID: "grn-A", Daemon: daemonD, Service: S3, Path: "reports", ExpiresAt: end, MaxUses: 1}
	faults := []struct {
		code  string
		spoil func(*Grant)
	}{
		{CodeRequired, func(g *Grant) { g.Daemon = daemonE }},
		{CodeRevoked, func(g *Grant) { g.RevokedAt = noon }},
		{CodeExpired, func(g *Grant) { g.ExpiresAt = noon }},
		{CodeScope, func(g *Grant) { g.Path = "other" }},
		{CodeExhausted, func(g *Grant) { g.UsedCount = 1 }},
	}
	for set := range 1 << len(faults) {
		g, want := good, ""
		for i, f := range faults {
			if set&(1<<i) != 0 {
				f.spoil(&g)
				if want == "" {
					want = f.code
				}
			}
		}
		wantCode(t, fmt.Sprintf("faults %05b", set), Check(g, asking("reports/a"), noon), want)
	}
	wantCode(t, "other service", Check(good, Request{Daemon: daemonD, Service: "dynamodb", Path: "reports"}, noon), CodeScope)
	for _, path := range []Path{"", "reports2", "report", "/", "reports/../x", "reports//x", "reports/", "reports/*"} {
		wantCode(t, fmt.Sprintf("path %q", path), Check(good, asking(path), noon), CodeScope)
		all := good
		all.Path = Root
		if path.check() != nil {
			wantCode(t, fmt.Sprintf("path %q under the root", path), Check(all, asking(path), noon), CodeScope)
		}
	}
}

func TestTimeBoundaries(t *testing.T) {
	s := newStore(t)
	g := add(t, s, alice)
	for d, code := range map[time.Duration]string{
		-time.Millisecond: "", -time.Microsecond: "", -1: "", 0: CodeExpired, 1: CodeExpired, time.Millisecond: CodeExpired} {
		now := end.Add(d)
		_, err := find(t, s, asking("reports"), now)
		wantCode(t, fmt.Sprintf("unnamed %v after the end", d), err, code)
		_, err = find(t, s, named(asking("reports"), g.ID), now)
		wantCode(t, fmt.Sprintf("named %v after the end", d), err, code)
		wantCode(t, fmt.Sprintf("check %v after the end", d), Check(g, asking("reports"), now), code)
		if active := g.Status(now) == "active"; active != (code == "") {
			t.Errorf("%v after the end its status is %s", d, g.Status(now))
		}
		err = s.Update(t.Context(), func(tx *sql.Tx) error {
			wantCode(t, fmt.Sprintf("use %v after the end", d), Use(t.Context(), tx, g, "r", now), code)
			return errors.New("undo")
		})
		if err == nil || err.Error() != "undo" {
			t.Error(err)
		}
	}
}

func TestFind(t *testing.T) {
	s := newStore(t)
	request := asking("reports/2026")
	_, err := find(t, s, request, noon)
	wantCode(t, "no grants at all", err, CodeRequired)
	add(t, s, alice, to(daemonE), under("/"))
	_, err = find(t, s, request, noon)
	wantCode(t, "grants of others only", err, CodeRequired)
	add(t, s, alice, under("reports2"))
	add(t, s, alice, under("reports/2026/07"))
	_, err = find(t, s, request, noon)
	wantCode(t, "grants beside and beneath", err, CodeScope)

	ends := func(hours int) func(*Terms) { return until(noon.Add(time.Duration(hours) * time.Hour)) }
	want := func(what, id string) {
		t.Helper()
		g, err := find(t, s, request, noon)
		if err != nil || g.ID != id {
			t.Errorf("%s: %s, %v; want %s", what, g.ID, err, id)
		}
	}
	root := add(t, s, alice, under("/"), ends(2), uses(1))
	want("the root's", root.ID)
	late := add(t, s, alice, under("reports"), ends(3))
	want("the one that ends last", late.ID)
	add(t, s, alice, under("reports/2026"), ends(3))
	want("the older of two that end together", late.ID)
	add(t, s, alice, under("reports"), ends(3))
	want("the older of two on one path", late.ID)
	add(t, s, alice, under("reports"), ends(1))
	want("one that ends sooner changes nothing", late.ID)

	_, err = find(t, s, Request{Daemon: daemonD, Service: "dynamodb", Path: "reports"}, noon)
	wantCode(t, "another service", err, CodeRequired)
	_, err = find(t, s, Request{Daemon: strings.ToUpper(daemonD), Service: S3, Path: "reports"}, noon)
	wantCode(t, "the address in another spelling", err, CodeRequired)
	for _, path := range []Path{"", "reports/..", "reports/", "*"} {
		_, err = find(t, s, asking(path), noon)
		wantCode(t, fmt.Sprintf("path %q", path), err, CodeScope)
		_, err = find(t, s, named(asking(path), root.ID), noon)
		wantCode(t, fmt.Sprintf("path %q, named", path), err, CodeScope)
	}
	if g, err := find(t, s, named(request, root.ID), noon); err != nil || g.ID != root.ID {
		t.Errorf("the named: %s, %v; want %s", g.ID, err, root.ID)
	}
}

// As its grants end, a daemon is given the next, and told of the newest in the end.
func TestFindTakesTheNextAsGrantsEnd(t *testing.T) {
	s := newStore(t)
	request := asking("reports")
	last := add(t, s, alice, until(noon.Add(3*time.Hour)), uses(1))
	next := add(t, s, alice, until(noon.Add(2*time.Hour)))
	root := add(t, s, alice, until(noon.Add(time.Hour)), under("/"))
	want := func(what string, g Grant, now time.Time) {
		t.Helper()
		got, err := find(t, s, request, now)
		if err != nil || got.ID != g.ID {
			t.Errorf("%s: %s, %v; want %s", what, got.ID, err, g.ID)
		}
	}
	want("at first", last, noon)
	if err := use(t, s, last, noon); err != nil {
		t.Fatal(err)
	}
	want("one used up", next, noon)
	if _, _, err := revoke(t, s, alice, next.ID, noon); err != nil {
		t.Fatal(err)
	}
	want("one revoked", root, noon)
	_, err := find(t, s, request, noon.Add(time.Hour))
	wantCode(t, "all ended, the newest by time", err, CodeExpired)
	if _, _, err := revoke(t, s, alice, root.ID, noon); err != nil {
		t.Fatal(err)
	}
	_, err = find(t, s, request, noon)
	wantCode(t, "all ended, the newest revoked", err, CodeRevoked)
	used := add(t, s, alice, uses(1))
	if err := use(t, s, used, noon); err != nil {
		t.Fatal(err)
	}
	_, err = find(t, s, request, noon)
	wantCode(t, "all ended, the newest used up", err, CodeExhausted)
}

func TestFindRefusesToChooseAnOwner(t *testing.T) {
	request := asking("reports/2026")
	for name, paths := range map[string][2]string{
		"one path": {"reports", "reports"}, "above": {"/", "reports"}, "beneath": {"reports/2026", "reports"}, "both exact": {"reports/2026", "reports/2026"},
		"one elsewhere": {"/", "elsewhere"},
	} {
		s := newStore(t)
		a := add(t, s, alice, under(paths[0]), until(noon.Add(2*time.Hour)))
		for range 40 { // more of hers do not hide his
			add(t, s, alice, under(paths[0]), until(noon.Add(3*time.Hour)))
		}
		b := add(t, s, bob, under(paths[1]), until(noon.Add(time.Hour)))
		_, err := find(t, s, request, noon)
		wantCode(t, name, err, CodeAmbiguous)
		for _, g := range []Grant{a, b} {
			if got, err := find(t, s, named(asking(g.Path), g.ID), noon); err != nil || got.Tenant != g.Tenant {
				t.Errorf("%s: named %s: %s, %v; want tenant %s", name, g.ID, got.Tenant, err, g.Tenant)
			}
		}
		_, err = find(t, s, request, noon.Add(time.Hour))
		wantCode(t, name+", after one has expired", err, CodeAmbiguous)
		if _, _, err := revoke(t, s, bob, b.ID, noon); err != nil {
			t.Fatal(err)
		}
		_, err = find(t, s, request, noon)
		wantCode(t, name+", after one was revoked", err, CodeAmbiguous)
		add(t, s, alice, to(daemonE))
		_, err = find(t, s, Request{Daemon: daemonE, Service: S3, Path: "reports"}, noon)
		wantCode(t, name+", another daemon", err, "")
	}
}

// Whether a grant is another daemon's or does not exist cannot be told apart.
func TestNoOracleForOthersGrants(t *testing.T) {
	s := newStore(t)
	theirs := add(t, s, alice, to(daemonE))
	ended := add(t, s, alice, to(daemonE))
	if _, _, err := revoke(t, s, alice, ended.ID, noon); err != nil {
		t.Fatal(err)
	}
	const absent = "grn-AAAAAAAAAAAAAAAA"
	_, err := find(t, s, named(asking("reports"), absent), noon)
	wantCode(t, "no such grant", err, CodeRequired)
	want := err.Error()
	for _, g := range []Grant{theirs, ended} {
		_, err := find(t, s, named(asking("reports"), g.ID), noon)
		if got := strings.ReplaceAll(fmt.Sprint(err), g.ID, absent); got != want {
			t.Errorf("of another's grant: %q, want %q", got, want)
		}
		if got := strings.ReplaceAll(fmt.Sprint(Check(g, asking("reports"), noon)), g.ID, absent); got != want {
			t.Errorf("checked, of another's grant: %q, want %q", got, want)
		}
		_, _, err = revoke(t, s, bob, g.ID, noon)
		_, _, none := revoke(t, s, bob, absent, noon)
		if got, want := strings.ReplaceAll(fmt.Sprint(err), g.ID, absent), fmt.Sprint(none); got != want || codeOf(err) != CodeUnknown {
			t.Errorf("revoking another's grant: %q, want %q", got, want)
		}
	}
	if byID(t, s, theirs.ID).Status(noon) != "active" {
		t.Error("another owner revoked it")
	}
	long := strings.Repeat("x", 5000) + "\n"
	if _, err := find(t, s, named(asking("reports"), long), noon); len(err.Error()) > 200 || strings.Contains(err.Error(), "\n") {
		t.Errorf("a long id makes %q", err)
	}
}

func TestUseCountsExactly(t *testing.T) {
	s := newStore(t)
	g := add(t, s, alice, uses(100))
	var used, refused atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 3 {
				switch err := use(t, s, g, noon.Add(time.Second)); codeOf(err) {
				case "":
					used.Add(1)
				case CodeExhausted:
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := byID(t, s, g.ID)
	if used.Load() != 100 || refused.Load() != 64*3-100 || got.UsedCount != 100 {
		t.Errorf("%d used, %d refused, counted %d; want 100, 92, 100", used.Load(), refused.Load(), got.UsedCount)
	}
	if got.LastUsedAt != noon.Add(time.Second) || got.LastRecord != "01ARZ3NDEKTSV4RRFFQ69G5FAV" || got.Status(noon) != "exhausted" {
		t.Errorf("after the last use: %+v", got)
	}
}

// A use that fails counts nothing, and says how the grant ended since it was found.
func TestUseAfterTheGrantHasEnded(t *testing.T) {
	s := newStore(t)
	for code, end := range map[string]func(g Grant) time.Time{
		CodeRevoked: func(g Grant) time.Time {
			if _, _, err := revoke(t, s, alice, g.ID, noon); err != nil {
				t.Fatal(err)
			}
			return noon
		},
		CodeExpired: func(g Grant) time.Time { return g.ExpiresAt },
		CodeExhausted: func(g Grant) time.Time {
			for range g.MaxUses {
				if err := use(t, s, g, noon); err != nil {
					t.Fatal(err)
				}
			}
			return noon
		},
		CodeUnknown: func(g Grant) time.Time {
			mustRun(t, s, "DELETE FROM grants WHERE grant_id = $1", g.ID)
			return noon
		},
	} {
		g := add(t, s, alice)
		if found, err := find(t, s, named(asking("reports"), g.ID), noon); err != nil || found.ID != g.ID {
			t.Fatal(err)
		}
		now := end(g)
		wantCode(t, code, use(t, s, g, now), code)
		if code == CodeUnknown {
			continue
		}
		if got := byID(t, s, g.ID); (got.UsedCount == g.MaxUses) != (code == CodeExhausted) || code != CodeExhausted && got.UsedCount != 0 {
			t.Errorf("%s: %d uses counted", code, got.UsedCount)
		}
	}
}

func TestRevokeTwice(t *testing.T) {
	s := newStore(t)
	g := add(t, s, alice)
	at := noon.Add(1234567 * time.Nanosecond)
	first, did, err := revoke(t, s, alice, g.ID, at)
	if err != nil || !did || first.RevokedAt != noon.Add(time.Millisecond) {
		t.Errorf("first: %+v, %v, %v", first.RevokedAt, did, err)
	}
	for _, later := range []time.Time{at.Add(time.Hour), at.Add(-time.Hour), end.Add(time.Hour)} {
		again, did, err := revoke(t, s, alice, g.ID, later)
		if err != nil || did || cmp.Diff(first, again) != "" {
			t.Errorf("again at %v: %v, %v, %s", later, did, err, cmp.Diff(first, again))
		}
	}
	used := add(t, s, alice, uses(1))
	if err := use(t, s, used, noon); err != nil {
		t.Fatal(err)
	}
	if g, did, err := revoke(t, s, alice, used.ID, end.Add(time.Hour)); err != nil || !did || g.Status(noon) != "revoked" || g.UsedCount != 1 {
		t.Errorf("one that had ended by itself: %+v, %v, %v", g, did, err)
	}
}
