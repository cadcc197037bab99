package policy

import (
	"fmt"
	"strings"
	"testing"
)

// resourceFor allows everything to a principal in a resource policy.
func resourceFor(t testing.TB, principal string) *Policy {
	t.Helper()
	return compiled(t, statementJSON(`"Effect":"Allow","Principal":`+principal+`,"Action":"*","Resource":"*"`))
}

func get(p Principal) *Request {
	return &Request{Principal: p, Action: "s3:GetObject", Resource: objectARN, ResourceAccount: account, Context: NewContext()}
}

// TestSameAccount is the table of what a resource policy's grant still needs,
// row by row: nothing else, a boundary or a session policy that do not speak of
// the request, and an identity policy beside them.
func TestSameAccount(t *testing.T) {
	silent := []*Policy{compiled(t, statementJSON(`"Effect":"Allow","Action":"ec2:*","Resource":"*"`))}
	all := []*Policy{compiled(t, allowAll)}
	aws := func(name string) string { return `{"AWS":"` + name + `"}` }
	narrowed := `"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{"ArnEquals":{"aws:PrincipalArn":"` + roleARN + `"}}`
	rows := []struct {
		name   string
		caller Principal
		policy *Policy
		// allowed with the resource policy alone; and with a silent boundary, a
		// silent session policy; and with an identity Allow beside both silent ones
		alone, boundary, session, identity bool
		// the same with an identity Allow and neither boundary nor session policy
		union bool
	}{
		{"session ARN", session(), resourceFor(t, aws(sessARN)), true, true, true, true, true},
		{"session by unique id", session(), resourceFor(t, aws(sessionID)), true, true, true, true, true},
		{"another session by unique id", session(), resourceFor(t, aws(roleID+":s2")), false, false, false, false, true},
		{"session of another role's id", session(), resourceFor(t, aws("AROAEXAMPLEROLE00002:s1")), false, false, false, false, true},
		{"role ARN", session(), resourceFor(t, aws(roleARN)), true, false, false, false, true},
		{"role's unique id", session(), resourceFor(t, aws(roleID)), true, false, false, false, true},
		{"user ARN", user(), resourceFor(t, aws(userARN)), true, true, false, false, true},
		{"user's unique id", user(), resourceFor(t, aws(userID)), true, true, false, false, true},
		{"user ARN, federated", federated(), resourceFor(t, aws(userARN)), true, false, false, false, true},
		{"federated user ARN", federated(), resourceFor(t, aws(fedARN)), true, true, true, true, true},
		{"star", session(), resourceFor(t, `"*"`), true, true, true, true, true},
		{"AWS star", session(), resourceFor(t, aws("*")), true, true, true, true, true},
		{"star narrowed to the role", session(), compiled(t, statementJSON(narrowed)), true, true, true, true, true},
		{"account's root", session(), resourceFor(t, aws(rootARN)), false, false, false, false, true},
		{"account id", user(), resourceFor(t, aws(account)), false, false, false, false, true},
		{"another role", session(), resourceFor(t, aws(roleARN+"2")), false, false, false, false, true},
		{"role ARN in capitals", session(), resourceFor(t, aws(strings.ToUpper(roleARN))), false, false, false, false, true},
		{"partial wildcard", session(), resourceFor(t, aws("arn:aws:iam::111122223333:role/*")), false, false, false, false, true},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := get(row.caller)
			r.Context.Set("aws:PrincipalArn", roleARN)
			sets := []struct {
				name string
				set  Set
				want bool
			}{
				{"alone", Set{}, row.alone},
				{"silent boundary", Set{Boundary: silent}, row.boundary},
				{"silent session policy", Set{Session: silent}, row.session},
				{"identity, both silent", Set{Identity: all, Boundary: silent, Session: silent}, row.identity},
				{"empty boundary", Set{Boundary: []*Policy{}}, row.boundary},
				{"identity", Set{Identity: all}, row.union},
				{"identity, boundary, session policy", Set{Identity: all, Boundary: all, Session: all}, row.union},
			}
			for _, s := range sets {
				s.set.Resource = []*Policy{row.policy}
				if d := check(t, r, &s.set); d.Allowed != s.want {
					t.Errorf("%s: got %+v, want allowed %v", s.name, d, s.want)
				}
			}
		})
	}
}

// TestNoGrant: without a grant of the resource, identity, boundary and session
// policy must all allow, and the layer that refused is named.
func TestNoGrant(t *testing.T) {
	all := []*Policy{compiled(t, allowAll)}
	silent := []*Policy{}
	rows := []struct {
		set   Set
		layer Layer
		want  bool
	}{
		{Set{}, IdentityLayer, false},
		{Set{Identity: all}, IdentityLayer, true},
		{Set{Identity: all, Boundary: silent}, BoundaryLayer, false},
		{Set{Identity: all, Session: silent}, SessionLayer, false},
		{Set{Identity: all, Boundary: all, Session: all}, IdentityLayer, true},
		{Set{Boundary: all, Session: all}, IdentityLayer, false},
		{Set{Identity: all, ServiceControl: [][]*Policy{all, all}}, IdentityLayer, true},
		{Set{Identity: all, ServiceControl: [][]*Policy{all, silent}}, ServiceControlLayer, false},
		{Set{Identity: all, ServiceControl: [][]*Policy{silent, all}}, ServiceControlLayer, false},
		{Set{Identity: all, ResourceControl: [][]*Policy{silent}}, IdentityLayer, true}, // RCPFullAWSAccess is always there
	}
	for i, row := range rows {
		d := check(t, get(session()), &row.set)
		if d.Allowed != row.want || d.Layer != row.layer {
			t.Errorf("row %d: got %+v, want allowed %v by %s", i, d, row.want, row.layer)
		}
	}
}

// TestExplicitDeny: a matching Deny in any layer wins over every Allow.
func TestExplicitDeny(t *testing.T) {
	all := compiled(t, allowAll)
	deny := compiled(t, statementJSON(`"Sid":"stop","Effect":"Deny","Action":"s3:GetObject","Resource":"*"`))
	denyAll := compiled(t, statementJSON(`"Sid":"stop","Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"*"`))
	open := []*Policy{all}
	base := func() Set {
		return Set{Identity: open, Boundary: open, Session: open, Resource: []*Policy{resourceFor(t, `"*"`)}, ServiceControl: [][]*Policy{open}}
	}
	for layer, add := range map[Layer]func(*Set){
		IdentityLayer:        func(s *Set) { s.Identity = []*Policy{all, deny} },
		BoundaryLayer:        func(s *Set) { s.Boundary = []*Policy{all, deny} },
		SessionLayer:         func(s *Set) { s.Session = []*Policy{all, deny} },
		ResourceLayer:        func(s *Set) { s.Resource = append(s.Resource, denyAll) },
		ServiceControlLayer:  func(s *Set) { s.ServiceControl = [][]*Policy{open, {all, deny}} },
		ResourceControlLayer: func(s *Set) { s.ResourceControl = [][]*Policy{{denyAll}} },
	} {
		s := base()
		if d := check(t, get(session()), &s); !d.Allowed {
			t.Fatalf("without the deny: %+v", d)
		}
		add(&s)
		want := Decision{Explicit: true, Layer: layer, Policy: "test", Sid: "stop"}
		if d := check(t, get(session()), &s); d != want {
			t.Errorf("deny in %s: got %+v, want %+v", layer, d, want)
		}
	}
}

// TestCrossAccount: both accounts must allow, whatever form names the caller.
func TestCrossAccount(t *testing.T) {
	all := []*Policy{compiled(t, allowAll)}
	silent := []*Policy{}
	p := stranger()
	for _, principal := range []string{`"*"`, `{"AWS":"*"}`, `{"AWS":"` + p.Issuer + `"}`, `{"AWS":"` + p.ARN + `"}`, `{"AWS":"` + foreign + `"}`} {
		resource := []*Policy{resourceFor(t, principal)}
		rows := []struct {
			set   Set
			layer Layer
			want  bool
		}{
			{Set{Identity: all, Resource: resource}, ResourceLayer, true},
			{Set{Resource: resource}, IdentityLayer, false},
			{Set{Identity: all}, ResourceLayer, false},
			{Set{Identity: all, Resource: resource, Boundary: silent}, BoundaryLayer, false},
			{Set{Identity: all, Resource: resource, Session: silent}, SessionLayer, false},
			{Set{Identity: all, Resource: []*Policy{resourceFor(t, `{"AWS":"`+account+`"}`)}}, ResourceLayer, false},
		}
		for i, row := range rows {
			if d := check(t, get(p), &row.set); d.Allowed != row.want || d.Layer != row.layer {
				t.Errorf("%s row %d: got %+v, want allowed %v by %s", principal, i, d, row.want, row.layer)
			}
		}
	}
	unknown := get(session())
	unknown.ResourceAccount = ""
	if d := check(t, unknown, &Set{Identity: all}); d.Allowed {
		t.Errorf("unknown owner: got %+v, want a refusal", d)
	}
	nobody := get(Principal{Kind: User, ARN: userARN})
	nobody.ResourceAccount = ""
	if d := check(t, nobody, &Set{Identity: all}); d.Allowed {
		t.Errorf("user without an account: got %+v, want a refusal", d)
	}
}

// TestPrincipalKinds: which member names which kind of caller.
func TestPrincipalKinds(t *testing.T) {
	service := Principal{Kind: Service, Service: "ses.amazonaws.com"}
	callers := []struct {
		name string
		p    Principal
	}{
		{"anonymous", Principal{}}, {"root", root()}, {"user", user()}, {"session", session()},
		{"federated", federated()}, {"web", webIdentity()}, {"service", service}, {"stranger", stranger()},
	}
	rows := []struct {
		principal string
		named     string // callers that an Allow authorises, given identity policies for all
	}{
		{`"*"`, "anonymous root user session federated stranger"},
		{`{"AWS":"*"}`, "anonymous root user session federated stranger"},
		{`{"AWS":"` + account + `"}`, "root user session federated"},
		{`{"AWS":"` + rootARN + `"}`, "root user session federated"},
		{`{"AWS":"arn:aws-cn:iam::` + foreign + `:root"}`, "stranger"},
		{`{"AWS":"` + userARN + `"}`, "user federated"},
		{`{"AWS":"` + userID + `"}`, "user federated"},
		{`{"AWS":["` + roleARN + `","` + stranger().Issuer + `"]}`, "session stranger"},
		{`{"Federated":"` + providerA + `"}`, "web"},
		{`{"Federated":"` + providerA + `/x"}`, ""},
		{`{"AWS":"` + providerA + `"}`, ""},
		{`{"Service":"ses.amazonaws.com"}`, "service"},
		{`{"Service":"s3.amazonaws.com"}`, ""},
		{`{"AWS":"ses.amazonaws.com"}`, ""},
		{`{"CanonicalUser":"79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"}`, ""},
		{`{"Federated":"` + providerA + `","AWS":"` + roleARN + `"}`, "session web"},
	}
	for _, row := range rows {
		var named []string
		for _, c := range callers {
			s := &Set{Resource: []*Policy{resourceFor(t, row.principal)}, ResourceMustAllow: true}
			if c.p.inAccount() {
				s.Identity = []*Policy{compiled(t, allowAll)}
			}
			if check(t, get(c.p), s).Allowed {
				named = append(named, c.name)
			}
		}
		if got := strings.Join(named, " "); got != row.named {
			t.Errorf("%s: authorises %q, want %q", row.principal, got, row.named)
		}
	}
}

// TestDenyStar: a Deny for "*" reaches every caller; one for {"AWS":"*"} reaches
// a web identity too, and says that this is unsettled.
func TestDenyStar(t *testing.T) {
	provider := resourceFor(t, `{"Federated":"`+providerA+`"}`)
	for principal, ambiguous := range map[string]bool{`"*"`: false, `{"AWS":"*"}`: true} {
		deny := compiled(t, statementJSON(`"Effect":"Deny","Principal":`+principal+`,"Action":"*","Resource":"*"`))
		d := check(t, get(webIdentity()), &Set{Resource: []*Policy{provider, deny}, ResourceMustAllow: true})
		if d.Allowed || !d.Explicit || (d.Ambiguous != "") != ambiguous {
			t.Errorf("%s: got %+v, want an explicit deny, ambiguous %v", principal, d, ambiguous)
		}
	}
	anyAWS := compiled(t, statementJSON(`"Effect":"Deny","Principal":{"AWS":"*"},"Action":"*","Resource":"*"`))
	if x := Explain(get(webIdentity()), &Set{Resource: []*Policy{anyAWS}}); !x.Statements[0].Matched || x.Statements[0].Ambiguous == "" {
		t.Errorf("got %+v, want matched and ambiguous", x.Statements[0])
	}
	d := check(t, get(webIdentity()), &Set{Resource: []*Policy{resourceFor(t, `"*"`)}})
	if d.Allowed || d.Ambiguous == "" {
		t.Errorf(`Allow "*" for a web identity: got %+v, want an ambiguous refusal`, d)
	}
}

// TestCanonicalUser: a canonical user id names the account that has it.
func TestCanonicalUser(t *testing.T) {
	p := stranger()
	p.CanonicalUser = "79a5"
	s := &Set{Identity: []*Policy{compiled(t, allowAll)}, Resource: []*Policy{resourceFor(t, `{"CanonicalUser":"79a5"}`)}}
	if d := check(t, get(p), s); !d.Allowed {
		t.Errorf("got %+v, want allowed", d)
	}
}

// TestTrustPolicy: a trust policy must allow by itself.
func TestTrustPolicy(t *testing.T) {
	all := []*Policy{compiled(t, allowAll)}
	silent := []*Policy{}
	trust := func(principal string) []*Policy {
		return []*Policy{compiled(t, statementJSON(`"Effect":"Allow","Principal":`+principal+`,"Action":"sts:AssumeRole"`))}
	}
	assume := func(p Principal) *Request {
		return &Request{Principal: p, Action: "sts:AssumeRole", Resource: roleARN, ResourceAccount: account, Context: NewContext()}
	}
	rows := []struct {
		name   string
		caller Principal
		set    Set
		want   bool
	}{
		{"identity policy alone", user(), Set{Identity: all}, false},
		{"user named", user(), Set{Resource: trust(`{"AWS":"` + userARN + `"}`)}, true},
		{"account named, no identity policy", user(), Set{Resource: trust(`{"AWS":"` + rootARN + `"}`)}, false},
		{"account named, identity policy", user(), Set{Resource: trust(`{"AWS":"` + rootARN + `"}`), Identity: all}, true},
		{"account named, silent boundary", user(), Set{Resource: trust(`{"AWS":"` + rootARN + `"}`), Identity: all, Boundary: silent}, false},
		{"role named", session(), Set{Resource: trust(`{"AWS":"` + roleARN + `"}`)}, true},
		{"role named, silent session policy", session(), Set{Resource: trust(`{"AWS":"` + roleARN + `"}`), Session: silent}, false},
		{"other account, identity policy", stranger(), Set{Resource: trust(`{"AWS":"` + foreign + `"}`), Identity: all}, true},
		{"other account, no identity policy", stranger(), Set{Resource: trust(`{"AWS":"` + foreign + `"}`)}, false},
		{"service", Principal{Kind: Service, Service: "ec2.amazonaws.com"}, Set{Resource: trust(`{"Service":"ec2.amazonaws.com"}`)}, true},
		{"AWS star and a web identity", webIdentity(), Set{Resource: trust(`{"AWS":"*"}`)}, false},
		{"provider", webIdentity(), Set{Resource: trust(`{"Federated":"` + providerA + `"}`)}, true},
	}
	for _, row := range rows {
		row.set.ResourceMustAllow = true
		if d := check(t, assume(row.caller), &row.set); d.Allowed != row.want {
			t.Errorf("%s: got %+v, want allowed %v", row.name, d, row.want)
		}
	}
}

// TestNotPrincipal: an Allow is for everybody else, a Deny spares only a caller
// all of whose names are listed, and never one with a boundary.
func TestNotPrincipal(t *testing.T) {
	statement := func(effect, names string) *Policy {
		return compiled(t, statementJSON(`"Effect":"`+effect+`","NotPrincipal":{"AWS":`+names+`},"Action":"*","Resource":"*"`))
	}
	names := func(list ...string) string { return quoted(t, list) }
	rows := []struct {
		name   string
		effect string
		names  string
		caller Principal
		want   bool
	}{
		{"everybody else", "Allow", names(userARN), session(), true},
		{"anonymous too", "Allow", names(userARN), Principal{}, true},
		{"not the user", "Allow", names(userARN), user(), false},
		{"not the user by id", "Allow", names(userID), user(), false},
		{"not the account", "Allow", names(account), user(), false},
		{"not the role", "Allow", names(roleARN), session(), false},

		{"session needs account, role and session", "Deny", names(rootARN, roleARN, sessARN), session(), true},
		{"session by unique ids", "Deny", names(rootARN, roleID, sessionID), session(), true},
		{"session without the session, by unique ids", "Deny", names(rootARN, roleID, roleID+":s2"), session(), false},
		{"session without the account", "Deny", names(roleARN, sessARN), session(), false},
		{"session without the role", "Deny", names(account, sessARN), session(), false},
		{"session without the session", "Deny", names(account, roleARN), session(), false},
		{"user needs account and user", "Deny", names(account, userARN), user(), true},
		{"user without the account", "Deny", names(userARN), user(), false},
		{"root", "Deny", names(account), root(), true},
		{"anonymous", "Deny", names(account, userARN), Principal{}, false},
		{"star", "Deny", names("*"), user(), false},
	}
	for _, row := range rows {
		s := &Set{Resource: []*Policy{statement(row.effect, row.names)}}
		if row.effect == "Deny" {
			s.Resource = append(s.Resource, resourceFor(t, `"*"`))
		}
		if d := check(t, get(row.caller), s); d.Allowed != row.want {
			t.Errorf("%s: got %+v, want allowed %v", row.name, d, row.want)
		}
	}
	bounded := &Set{
		Resource: []*Policy{statement("Deny", names(account, roleARN, sessARN)), resourceFor(t, `"*"`)},
		Boundary: []*Policy{compiled(t, allowAll)},
	}
	if d := check(t, get(session()), bounded); !d.Explicit {
		t.Errorf("boundary: got %+v, want an explicit deny", d)
	}
	limited := &Set{Resource: []*Policy{statement("Allow", names(userARN))}, Session: []*Policy{}}
	if d := check(t, get(session()), limited); d.Allowed || d.Ambiguous == "" {
		t.Errorf("Allow NotPrincipal under a silent session policy: got %+v, want an ambiguous refusal", d)
	}
}

// TestNotElements: NotAction and NotResource match what is not named.
func TestNotElements(t *testing.T) {
	rows := []struct {
		statement, action, resource string
		want                        bool
	}{
		{`"NotAction":"iam:*","Resource":"*"`, "s3:GetObject", objectARN, true},
		{`"NotAction":["iam:*","S3:get*"],"Resource":"*"`, "s3:GetObject", objectARN, false},
		{`"Action":"*","NotResource":"arn:aws:s3:::secret/*"`, "s3:GetObject", objectARN, true},
		{`"Action":"*","NotResource":"` + bucketARN + `/*"`, "s3:GetObject", objectARN, false},
		{`"Action":"S3:GETOBJECT","Resource":"*"`, "s3:GetObject", objectARN, true},
		{`"Action":"s3:Get?bject","Resource":"*"`, "s3:GetObject", objectARN, true},
		{`"Action":"s3:GetObject","Resource":"*"`, "s3:GetObjectVersion", objectARN, false},
		{`"Action":"*:*","Resource":"*"`, "s3:GetObject", objectARN, true},
		{`"Action":"s3:*","Resource":"arn:aws:s3:::AGENTKEYS-data/*"`, "s3:GetObject", objectARN, false},
		{`"Action":"s3:*","Resource":"arn:aws:s3:::*"`, "s3:GetObject", objectARN, true},
		{`"Action":"s3:*","Resource":"` + bucketARN + `/*"`, "s3:GetObject", bucketARN + "/", true},
		{`"Action":"s3:*","Resource":"` + bucketARN + `/*"`, "s3:ListBucket", bucketARN, false},
		{`"Action":"s3:*","Resource":"*"`, "s3:ListAllMyBuckets", "*", true},
		{`"Action":"s3:*","Resource":"arn:aws:s3:::*"`, "s3:ListAllMyBuckets", "*", true},
		{`"Action":"s3:*","Resource":"` + bucketARN + `/*"`, "s3:ListAllMyBuckets", "*", false},
		{`"Action":"s3:*","Resource":"arn:*:s3:*:*:agentkeys-data/*"`, "s3:GetObject", objectARN, true},
		{`"Action":"s3:*","Resource":"arn:*:s3:::x/*"`, "s3:GetObject", "arn:aws:s3:::y:s3:::x/1", false},
	}
	for _, row := range rows {
		r := get(user())
		r.Action, r.Resource = row.action, row.resource
		s := &Set{Identity: []*Policy{compiled(t, statementJSON(`"Effect":"Allow",`+row.statement))}}
		if d := check(t, r, s); d.Allowed != row.want {
			t.Errorf("%s for %s on %s: got %v, want %v", row.statement, row.action, row.resource, d.Allowed, row.want)
		}
	}
}

// TestMisplacedElements: an Allow that lacks what its place needs grants
// nothing, and a Deny that does reaches everything.
func TestMisplacedElements(t *testing.T) {
	for _, row := range []struct {
		name      string
		statement string
		set       func(*Policy) *Set
	}{
		{"resource policy without Principal", `"Action":"*","Resource":"*"`, func(p *Policy) *Set { return &Set{Resource: []*Policy{p}} }},
		{"identity policy with Principal", `"Principal":"*","Action":"*","Resource":"*"`, func(p *Policy) *Set { return &Set{Identity: []*Policy{p}} }},
		{"identity policy without Resource", `"Action":"*"`, func(p *Policy) *Set { return &Set{Identity: []*Policy{p}} }},
		{"bucket policy without Resource", `"Principal":"*","Action":"*"`, func(p *Policy) *Set { return &Set{Resource: []*Policy{p}} }},
	} {
		if d := check(t, get(user()), row.set(compiled(t, statementJSON(`"Effect":"Allow",`+row.statement)))); d.Allowed {
			t.Errorf("%s: got %+v, want a refusal", row.name, d)
		}
		s := row.set(compiled(t, statementJSON(`"Effect":"Deny",`+row.statement)))
		s.Identity = append(s.Identity, compiled(t, allowAll))
		if d := check(t, get(user()), s); !d.Explicit {
			t.Errorf("%s, Deny: got %+v, want an explicit deny", row.name, d)
		}
	}
}

// TestExceptions: GetCallerIdentity cannot be refused to a caller with
// credentials, root needs no policy, and control policies pass over services
// and service-linked roles.
func TestExceptions(t *testing.T) {
	denyAll := compiled(t, statementJSON(`"Effect":"Deny","Action":"*","Resource":"*"`))
	whoami := get(session())
	whoami.Action, whoami.Resource = "sts:GetCallerIdentity", "*"
	if d := check(t, whoami, &Set{Identity: []*Policy{denyAll}}); !d.Allowed {
		t.Errorf("GetCallerIdentity: got %+v, want allowed", d)
	}
	whoami.Principal = Principal{}
	if d := check(t, whoami, &Set{}); d.Allowed {
		t.Errorf("GetCallerIdentity, anonymous: got %+v, want a refusal", d)
	}
	if d := check(t, get(root()), &Set{}); !d.Allowed {
		t.Errorf("root: got %+v, want allowed", d)
	}
	if d := check(t, get(root()), &Set{ServiceControl: [][]*Policy{{denyAll}}}); d.Allowed {
		t.Errorf("root under a control policy: got %+v, want a refusal", d)
	}
	service := &Set{Resource: []*Policy{resourceFor(t, `{"Service":"ses.amazonaws.com"}`)}, ServiceControl: [][]*Policy{{denyAll}}}
	if d := check(t, get(Principal{Kind: Service, Service: "ses.amazonaws.com"}), service); !d.Allowed {
		t.Errorf("service: got %+v, want allowed", d)
	}
	linked := session()
	linked.Issuer = "arn:aws:iam::111122223333:role/aws-service-role/x.amazonaws.com/R"
	s := &Set{Identity: []*Policy{compiled(t, allowAll)}, ServiceControl: [][]*Policy{{denyAll}}}
	if d := check(t, get(linked), s); !d.Allowed {
		t.Errorf("service-linked role: got %+v, want allowed", d)
	}
}

// TestPathOfRole: the Principal form keeps a role's path, which the session ARN
// does not have.
func TestPathOfRole(t *testing.T) {
	p := session()
	p.Issuer = "arn:aws:iam::111122223333:role/team/agentkeys-data-role"
	for arn, want := range map[string]bool{p.Issuer: true, roleARN: false, sessARN: true} {
		if d := check(t, get(p), &Set{Resource: []*Policy{resourceFor(t, `{"AWS":"`+arn+`"}`)}}); d.Allowed != want {
			t.Errorf("%s: got %v, want %v", arn, d.Allowed, want)
		}
	}
}

// TestExplainText holds the words a person reads: the decision, then a line per
// statement with the first element that failed.
func TestExplainText(t *testing.T) {
	hardened := compiledFile(t, "bucket-hardened.json")
	r := tenantRequest("s3:ListBucket", bucketARN, walletA)
	r.Context.Set("s3:prefix", "bots/"+walletB+"/")
	x := Explain(r, &Set{Resource: []*Policy{hardened}})
	lines := strings.Split(strings.TrimRight(x.Text, "\n"), "\n")
	if len(lines) != 1+len(hardened.doc.Statements) {
		t.Fatalf("got %d lines, want one and one per statement:\n%s", len(lines), x.Text)
	}
	own := "bots/${aws:PrincipalTag/agentkeys_user_wallet}/*"
	wants := []string{
		`refused: s3:ListBucket on "` + bucketARN + `" for ` + sessARN + ` with an explicit deny in resource-based policy "bucket-hardened.json" statement 4 (ForeignLists)`,
		fmt.Sprintf(`resource-based policy "bucket-hardened.json" statement 0 (ListOwn), Allow: Condition StringLike s3:prefix: got "bots/%s/", want one of [%q], where aws:PrincipalTag/agentkeys_user_wallet is %q`, walletB, own, walletA),
		`Allow: Action: got "s3:ListBucket", want one of ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]`,
		`Deny: Condition Null aws:PrincipalTag/agentkeys_user_wallet: got "` + walletA + `", want the key absent`,
		`Deny: Action: got "s3:ListBucket", want one of ["s3:*Object*"`,
		`statement 4 (ForeignLists), Deny: matched`,
		`Deny: Action: got "s3:ListBucket", want one of ["s3:ListBucketMultipartUploads"]`,
	}
	for i, want := range wants {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d:\ngot  %s\nwant %s", i, lines[i], want)
		}
	}
	x = Explain(get(user()), &Set{Resource: []*Policy{hardened}})
	if want := `refused: s3:GetObject on "` + objectARN + `" for ` + userARN + ` because no identity-based policy allows it`; !strings.HasPrefix(x.Text, want+"\n") {
		t.Errorf("got %s\nwant %s", x.Text, want)
	}
	if want := `Principal: got ` + userARN + `, want one of [AWS "` + roleARN + `"]`; x.Statements[0].Failed != want {
		t.Errorf("got %s\nwant %s", x.Statements[0].Failed, want)
	}
}
