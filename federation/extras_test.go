package federation

import (
	"strings"
	"testing"

	"agentkeys/policy"
)

func TestExtrasRefuse(t *testing.T) {
	thumbprint := strings.Repeat("a", 40)
	for _, test := range []struct {
		name string
		x    Extras
		want string // part of the error; "" is valid
	}{
		{"nothing", Extras{}, ""},
		{"thumbprint", Extras{Thumbprints: []string{thumbprint}}, ""},
		{"thumbprint with colons", Extras{Thumbprints: []string{"aa:" + thumbprint[3:]}}, "thumbprint"},
		{"short thumbprint", Extras{Thumbprints: []string{thumbprint[1:]}}, "thumbprint"},
		{"long thumbprint", Extras{Thumbprints: []string{thumbprint + "a"}}, "thumbprint"},
		{"empty thumbprint", Extras{Thumbprints: []string{""}}, "thumbprint"},
		{"six thumbprints", Extras{Thumbprints: []string{thumbprint, thumbprint, thumbprint, thumbprint, thumbprint, thumbprint}}, "at most 5, got 6"},
		{"domain", Extras{MailFrom: "agents.example.com"}, ""},
		{"address", Extras{MailFrom: "No.Reply+x@example.com"}, ""},
		{"any of a domain", Extras{MailFrom: "*@example.com"}, ""},
		{"a star", Extras{MailFrom: "*"}, "mail from"},
		{"a star in the domain", Extras{MailFrom: "*.example.com"}, "mail from"},
		{"a star in the local part", Extras{MailFrom: "a*@example.com"}, "mail from"},
		{"two stars", Extras{MailFrom: "**@example.com"}, "mail from"},
		{"a question mark", Extras{MailFrom: "?@example.com"}, "mail from"},
		{"a variable", Extras{MailFrom: "${aws:username}@example.com"}, "mail from"},
		{"two @", Extras{MailFrom: "a@b@example.com"}, "mail from"},
		{"no local part", Extras{MailFrom: "@example.com"}, "mail from"},
		{"no domain", Extras{MailFrom: "a@"}, "mail from"},
		{"host without a dot", Extras{MailFrom: "localhost"}, "mail from"},
		{"capitals in the domain", Extras{MailFrom: "a@Example.com"}, "lower case"},
		{"domain with a space", Extras{MailFrom: "example.com "}, "mail from"},
		{"domain with a slash", Extras{MailFrom: "example.com/x"}, "mail from"},
		{"dots in the local part", Extras{MailFrom: "a..b@example.com"}, "mail from"},
		{"long local part", Extras{MailFrom: strings.Repeat("a", 65) + "@example.com"}, "1 to 64"},
		{"inbound", Extras{Inbound: "mail/in"}, ""},
		{"inbound beside", Extras{Inbound: "bots2"}, ""},
		{"inbound in the tenants' folder", Extras{Inbound: "bots"}, `apart from the tenants' folder "bots"`},
		{"inbound with a tenant", Extras{Inbound: "bots/" + walletA}, "apart"},
		{"inbound with a wildcard", Extras{Inbound: "mail*"}, "inbound folder"},
		{"inbound with a slash", Extras{Inbound: "mail/"}, "inbound folder"},
		{"everything wrong", Extras{Thumbprints: []string{"x"}, MailFrom: "x", Inbound: "bots"}, "thumbprint"},
	} {
		_, err := RenderWith(testConfig(), Hardened, test.x)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want an error with %q", test.name, err, test.want)
		}
	}
	c := testConfig()
	c.Prefix = "mail/bots"
	if _, err := RenderWith(c, Hardened, Extras{Inbound: "mail"}); err == nil {
		t.Error("the tenants' folder inside the inbound one is taken")
	}
	if _, err := RenderWith(testConfig(), Hardened, Extras{Thumbprints: []string{"x"}, MailFrom: "x", Inbound: "bots"}); err == nil ||
		strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("got %v, want a line for each of three", err)
	}
}

// TestMailPolicyDecides: who may send as whom, by the role's policy alone.
func TestMailPolicyDecides(t *testing.T) {
	const domain, other = "agents.example.com", "example.org"
	omni := strings.Repeat("ab", 32)
	for _, test := range []struct {
		from, tag, sender, identity string
		want                        bool
	}{
		{domain, walletA, walletA + "@" + domain, domain, true},
		{domain, omni, omni + "@" + domain, domain, true},
		{domain, walletA, walletB + "@" + domain, domain, false},
		{domain, walletA, "ceo@" + domain, domain, false},
		{domain, walletA, walletA + "@" + other, other, false},
		{domain, walletA, walletA + "@" + domain, other, false},
		{domain, walletA, "", domain, false}, // no such key: not a mail
		{domain, "", "@" + domain, domain, false},
		{domain, "", walletA + "@" + domain, domain, false},
		{"noreply@" + domain, walletA, "noreply@" + domain, domain, true},
		{"noreply@" + domain, walletA, "noreply@" + domain, "noreply@" + domain, true},
		{"noreply@" + domain, walletA, "ceo@" + domain, domain, false},
		{"noreply@" + domain, walletA, walletA + "@" + domain, domain, false},
		{"*@" + domain, walletA, "ceo@" + domain, domain, true},
		{"*@" + domain, walletA, "ceo@" + domain + ".evil.example", domain, false},
		{"*@" + domain, walletA, "ceo@x." + domain, domain, false},
	} {
		for _, form := range []Form{Plain, Hardened} {
			c := testConfig()
			d := renderWith(t, c, form, Extras{MailFrom: test.from})
			set := &policy.Set{Identity: []*policy.Policy{compile(t, d.RolePolicy)}}
			for _, action := range []string{"ses:SendEmail", "ses:SendRawEmail"} {
				r := sessionRequest(c, test.tag, action, "arn:aws:ses:eu-central-1:111122223333:identity/"+test.identity)
				if test.sender != "" {
					r.Context.Set("ses:FromAddress", test.sender)
				}
				if got := policy.Evaluate(r, set).Allowed; got != test.want {
					t.Errorf("%s, --mail-from %s: tag %.8q sends as %q through %s: %v, want %v", form, test.from, test.tag, test.sender, test.identity, got, test.want)
				}
			}
			for _, action := range []string{"ses:SendBulkEmail", "ses:CreateEmailIdentity", "ses:DeleteEmailIdentity", "s3:GetObject", "s3:ListAllMyBuckets"} {
				r := sessionRequest(c, walletA, action, "arn:aws:ses:eu-central-1:111122223333:identity/"+domain)
				r.Context.Set("ses:FromAddress", test.sender)
				if policy.Evaluate(r, set).Allowed {
					t.Errorf("%s, --mail-from %s: %s is allowed", form, test.from, action)
				}
			}
		}
	}
}

// TestInboundMailDecides: SES writes for this account's receipt rules, into that
// folder, and nothing else.
func TestInboundMailDecides(t *testing.T) {
	c := testConfig()
	const rule = "arn:aws:ses:eu-central-1:111122223333:receipt-rule-set/default:receipt-rule/store"
	for _, test := range []struct {
		name, service, action, key, account, source string
		want                                        bool
	}{
		{"a mail", "ses.amazonaws.com", "s3:PutObject", "inbound/1", c.Account, rule, true},
		{"another service", "sns.amazonaws.com", "s3:PutObject", "inbound/1", c.Account, rule, false},
		{"another account", "ses.amazonaws.com", "s3:PutObject", "inbound/1", "444455556666", rule, false},
		{"another account's rule", "ses.amazonaws.com", "s3:PutObject", "inbound/1", c.Account,
			"arn:aws:ses:eu-central-1:444455556666:receipt-rule-set/default:receipt-rule/store", false},
		{"another region's rule", "ses.amazonaws.com", "s3:PutObject", "inbound/1", c.Account,
			"arn:aws:ses:us-east-1:111122223333:receipt-rule-set/default:receipt-rule/store", false},
		{"no account", "ses.amazonaws.com", "s3:PutObject", "inbound/1", "", rule, false},
		{"no rule", "ses.amazonaws.com", "s3:PutObject", "inbound/1", c.Account, "", false},
		{"reading", "ses.amazonaws.com", "s3:GetObject", "inbound/1", c.Account, rule, false},
		{"a tenant's folder", "ses.amazonaws.com", "s3:PutObject", "bots/" + walletA + "/1", c.Account, rule, false},
		{"a folder of a like name", "ses.amazonaws.com", "s3:PutObject", "inbound2/1", c.Account, rule, false},
	} {
		for _, form := range []Form{Plain, Hardened} {
			d := renderWith(t, c, form, Extras{Inbound: "inbound"})
			r := &policy.Request{
				Principal: policy.Principal{Kind: policy.Service, Service: test.service},
				Action:    test.action, Resource: c.BucketARN() + "/" + test.key, ResourceAccount: c.Account, Context: policy.NewContext(),
			}
			if test.account != "" {
				r.Context.Set("aws:SourceAccount", test.account)
			}
			if test.source != "" {
				r.Context.Set("aws:SourceArn", test.source)
			}
			set := &policy.Set{Resource: []*policy.Policy{compile(t, d.BucketPolicy)}}
			if got := policy.Evaluate(r, set).Allowed; got != test.want {
				t.Errorf("%s: %s: allowed = %v, want %v", form, test.name, got, test.want)
			}
			tenant := sessionRequest(c, walletA, "s3:PutObject", c.BucketARN()+"/inbound/1")
			if policy.Evaluate(tenant, set).Allowed {
				t.Errorf("%s: a tenant may write into the inbound folder", form)
			}
		}
	}
}
