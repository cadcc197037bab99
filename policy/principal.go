package policy

import "strings"

// grant is how a resource policy's principal named the caller, which decides
// what else has to allow the request. Greater is stronger.
// Source: IAM User Guide, reference_policies_evaluation-logic.
type grant uint8

const (
	noGrant      grant = iota
	accountGrant       // the account: delegates to it, so an identity policy must allow too
	limitedGrant       // the role, or the user behind a federated session: boundary and session policy limit it
	everyone           // by not being in NotPrincipal: whether it is limited is not settled
	directGrant        // the session itself, the user itself, or "*": nothing else is needed
	grantCount
)

type memberKind uint8

const (
	memberAnyone    memberKind = iota // the bare "*"
	memberAnyAWS                      // {"AWS": "*"}
	memberAccount                     // an account id or the ARN of its root
	memberAWS                         // an ARN or a unique id
	memberFederated                   // an identity provider
	memberService                     // an AWS service
	memberCanonical                   // a canonical user id
)

// member is one principal that a policy names.
type member struct {
	kind memberKind
	text string // for memberAccount the twelve digits
}

func compilePrincipals(p *Principals) []member {
	if p == nil {
		return nil
	}
	var list []member
	if p.Any {
		list = append(list, member{kind: memberAnyone})
	}
	for _, text := range p.AWS {
		list = append(list, awsMember(text))
	}
	for _, text := range p.Federated {
		list = append(list, member{memberFederated, text})
	}
	for _, text := range p.Service {
		list = append(list, member{memberService, text})
	}
	for _, text := range p.CanonicalUser {
		list = append(list, member{memberCanonical, text})
	}
	return list
}

func awsMember(text string) member {
	if text == "*" {
		return member{kind: memberAnyAWS}
	}
	if account, ok := accountOf(text); ok {
		return member{memberAccount, account}
	}
	return member{memberAWS, text}
}

// accountOf reads an account id, bare or as the ARN of the account's root.
func accountOf(text string) (string, bool) {
	if parts, ok := splitARN(text); ok {
		if parts[2] != "iam" || parts[3] != "" || parts[5] != "root" {
			return "", false
		}
		text = parts[4]
	}
	return text, isAccountID(text)
}

func isAccountID(s string) bool { return len(s) == 12 && digits(s) }

const (
	whyAnyone   = `whether the principal "*" names this kind of caller`
	whyNotAny   = `what "*" in NotPrincipal exempts`
	whyEveryone = "whether a grant by NotPrincipal is limited by boundary and session policy"
)

// inAccount reports whether the caller acts with credentials of an AWS account.
func (p *Principal) inAccount() bool {
	switch p.Kind {
	case Root, User, RoleSession, FederatedUser:
		return p.Account != ""
	default:
		return false
	}
}

// match reports whether the member names the caller, and how. An empty field
// of the caller is named by nothing.
func (m member) match(p *Principal, effect Effect) (verdict, grant) {
	switch m.kind {
	case memberAnyone:
		return p.isAnyone(effect, yes), directGrant
	case memberAnyAWS:
		return p.isAnyone(effect, maybe), directGrant
	case memberAccount:
		return verdictOf(p.inAccount() && p.Account == m.text), accountGrant
	case memberAWS:
		return m.matchAWS(p)
	case memberFederated:
		return m.matchNamed(p.Kind == WebIdentity, p.Provider)
	case memberService:
		return m.matchNamed(p.Kind == Service, p.Service)
	default:
		return verdictOf(p.inAccount() && p.CanonicalUser != "" && p.CanonicalUser == m.text), accountGrant
	}
}

// isAnyone decides "*" for the caller. It names every AWS principal and the
// anonymous caller; that {"AWS": "*"} does not authorise a web identity is
// recorded, while what a Deny makes of it, and what services make of it, is not.
func (p *Principal) isAnyone(effect Effect, denied verdict) verdict {
	switch {
	case p.Kind != WebIdentity && p.Kind != Service:
		return yes
	case effect == Deny:
		return denied
	case p.Kind == WebIdentity && denied == maybe:
		return no
	default:
		return maybe
	}
}

func (m member) matchAWS(p *Principal) (verdict, grant) {
	if m.text == "" || !p.inAccount() {
		return no, noGrant
	}
	switch m.text {
	case p.ARN, p.SessionID:
		return yes, directGrant
	case p.Issuer:
		return yes, limitedGrant
	case p.ID:
		if p.Kind == User {
			return yes, directGrant
		}
		return yes, limitedGrant
	}
	return no, noGrant
}

func (m member) matchNamed(rightKind bool, name string) (verdict, grant) {
	switch {
	case !rightKind:
		return no, noGrant
	case m.text == "*":
		return maybe, directGrant
	default:
		return verdictOf(name != "" && name == m.text), directGrant
	}
}

// matchPrincipal decides a statement's Principal: the strongest of the members
// that name the caller counts.
func matchPrincipal(list []member, p *Principal, effect Effect) (v verdict, g grant, why string) {
	for _, m := range list {
		one, how := m.match(p, effect)
		if one == no || one < v {
			continue
		}
		if one > v || how > g {
			v, g = one, how
		}
	}
	if v == maybe {
		why = whyAnyone
	}
	return v, g, why
}

// matchNotPrincipal decides a statement's NotPrincipal. An Allow exempts the
// caller when any of its names is listed. A Deny exempts it only when all are:
// for a role session the account, the role and the session.
// Source: IAM User Guide, reference_policies_elements_notprincipal.
func matchNotPrincipal(list []member, p *Principal, effect Effect) (v verdict, g grant, why string) {
	for _, m := range list {
		if m.kind == memberAnyone || m.kind == memberAnyAWS {
			return maybe, everyone, whyNotAny
		}
	}
	if effect == Deny {
		return verdictOf(!exempt(list, p)), noGrant, ""
	}
	for _, m := range list {
		if one, _ := m.match(p, effect); one != no {
			return no, noGrant, ""
		}
	}
	return yes, everyone, whyEveryone
}

// exempt reports whether every name of the caller is listed.
func exempt(list []member, p *Principal) bool {
	has := func(kind memberKind, texts ...string) bool {
		for _, m := range list {
			for _, text := range texts {
				if m.kind == kind && text != "" && m.text == text {
					return true
				}
			}
		}
		return false
	}
	switch p.Kind {
	case Root:
		return has(memberAccount, p.Account)
	case User:
		return has(memberAccount, p.Account) && has(memberAWS, p.ARN, p.ID)
	case RoleSession, FederatedUser:
		return has(memberAccount, p.Account) && has(memberAWS, p.Issuer, p.ID) && has(memberAWS, p.ARN, p.SessionID)
	case WebIdentity:
		return has(memberFederated, p.Provider)
	case Service:
		return has(memberService, p.Service)
	default:
		return false
	}
}

// serviceLinked reports whether the caller is a session of a service-linked
// role, which no service control policy reaches.
func (p *Principal) serviceLinked() bool {
	return p.Kind == RoleSession && strings.Contains(p.Issuer, ":role/aws-service-role/")
}
