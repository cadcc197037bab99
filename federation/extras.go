package federation

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"agentkeys/policy"
)

// Extras is what a set-up may have besides what isolates. The zero value is none
// of it.
type Extras struct {
	// Thumbprints are SHA-1 thumbprints of the authority behind the issuer's
	// certificate. AWS needs one only where it does not trust that authority
	// itself (id_roles_providers_create_oidc_verify-thumbprint).
	Thumbprints []string
	// MailFrom lets the tenants send mail through SES:
	//
	//	agents.example.com        each tenant as <its tag>@agents.example.com, and as nobody else
	//	noreply@example.com       every tenant as that one address
	//	*@agents.example.com      every tenant as any address of the domain, another tenant's too
	//
	// The domain is the one that is verified at SES, in lower case.
	MailFrom string
	// Inbound is a folder of the bucket, outside of the tenants', into which SES
	// may write the mail that it receives.
	Inbound string
}

// The statement ids of the extras.
const (
	sidSendMail    = "SendMail"
	sidInboundMail = "SESInboundMail"
)

var (
	thumbprintForm = regexp.MustCompile(`^[0-9A-Fa-f]{40}$`)
	mailDomainForm = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+$`)
	mailLocalForm  = regexp.MustCompile(`^[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*$`)
)

// maxThumbprints is IAM's limit (API reference, CreateOpenIDConnectProvider).
const maxThumbprints = 5

func (x Extras) validate(c Config) error {
	var errs []error
	if len(x.Thumbprints) > maxThumbprints {
		errs = append(errs, fmt.Errorf("thumbprints: want at most %d, got %d", maxThumbprints, len(x.Thumbprints)))
	}
	for _, t := range x.Thumbprints {
		if !thumbprintForm.MatchString(t) {
			errs = append(errs, fmt.Errorf("thumbprint: want 40 hexadecimal digits without colons, got %q", t))
		}
	}
	if x.MailFrom != "" {
		errs = append(errs, checkMailFrom(x.MailFrom))
	}
	if x.Inbound != "" {
		errs = append(errs, checkInbound(c, x.Inbound))
	}
	return errors.Join(errs...)
}

// thumbprints are in lower case, as IAM shows them.
func (x Extras) thumbprints() []string {
	var out []string
	for _, t := range x.Thumbprints {
		out = append(out, strings.ToLower(t))
	}
	return out
}

// checkMailFrom leaves out the rarer characters of a local part: in a policy
// some of them are wildcards and variables.
func checkMailFrom(from string) error {
	local, domain, isAddress := strings.Cut(from, "@")
	if !isAddress {
		domain = from
	}
	switch {
	case len(domain) > 253 || !mailDomainForm.MatchString(domain):
		return fmt.Errorf("mail from: want a domain in lower case, an address in one, or *@ and a domain, got %q", from)
	case isAddress && local != "*" && (len(local) > 64 || !mailLocalForm.MatchString(local)):
		return fmt.Errorf("mail from: want before the @ a * alone, or 1 to 64 of A-Z a-z 0-9 . _ + -, got %q", from)
	}
	return nil
}

// checkInbound keeps the folder of incoming mail and the tenants' apart: what SES
// writes must not land with a tenant, nor a tenant's objects with the mail.
func checkInbound(c Config, folder string) error {
	if err := checkFolder("inbound folder", folder); err != nil {
		return err
	}
	ours, theirs := c.Prefix+"/", folder+"/"
	if strings.HasPrefix(ours, theirs) || strings.HasPrefix(theirs, ours) {
		return fmt.Errorf("inbound folder: want one apart from the tenants' folder %q, got %q", c.Prefix, folder)
	}
	return nil
}

// sendMail lets a tenant send mail. It is the one thing that the role's identity
// policy grants: a tenant's objects are granted by the bucket alone.
//
// In the form with a domain the tenant's own tag is the local part, so that no
// tenant writes in another's name; a session without the tag has no address at
// all. The longest tag, an omni account, is 64 characters, which is what a local
// part may have (RFC 5321, section 4.5.3.1.1).
//
// SES asks for ses:SendEmail, and for ses:SendRawEmail where the message comes
// whole (Service Authorization Reference, Amazon SES v2). An address may be
// verified itself or through its domain, so both are named as identities; the
// condition still holds the sender to the one address.
func sendMail(c Config, from string) policy.Statement {
	local, domain, isAddress := strings.Cut(from, "@")
	sender := policy.Condition{Operator: "StringEquals", Key: "ses:FromAddress", Values: []string{from}}
	var identities []string
	switch {
	case !isAddress:
		domain = from
		sender.Values = []string{"${aws:PrincipalTag/" + c.TagKey + "}@" + domain}
	case local == "*":
		sender.Operator = "StringLike"
	default:
		identities = append(identities, c.sesARN("identity/"+from))
	}
	return policy.Statement{
		Sid: sidSendMail, Effect: policy.Allow,
		Action:    []string{"ses:SendEmail", "ses:SendRawEmail"},
		Resource:  append(identities, c.sesARN("identity/"+domain)),
		Condition: []policy.Condition{sender},
	}
}

// inboundMail lets SES write the mail that it receives. The conditions keep
// other accounts' receipt rules out, which act through the same service
// (SES developer guide, receiving-email-permissions).
func inboundMail(c Config, folder string) policy.Statement {
	return policy.Statement{
		Sid: sidInboundMail, Effect: policy.Allow,
		Principal: &policy.Principals{Service: []string{"ses.amazonaws.com"}},
		Action:    []string{"s3:PutObject"},
		Resource:  []string{c.BucketARN() + "/" + folder + "/*"},
		Condition: []policy.Condition{
			{Operator: "StringEquals", Key: "aws:SourceAccount", Values: []string{c.Account}},
			{Operator: "ArnLike", Key: "aws:SourceArn", Values: []string{c.sesARN("receipt-rule-set/*:receipt-rule/*")}},
		},
	}
}

// sesARN is the ARN of something at SES in the account and region.
func (c Config) sesARN(resource string) string {
	return "arn:" + c.Partition() + ":ses:" + c.Region + ":" + c.Account + ":" + resource
}
