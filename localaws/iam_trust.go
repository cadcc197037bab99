package localaws

import (
	"encoding/json"
	"regexp"
	"strings"

	"agentkeys/policy"
)

// bindPrincipals checks a trust policy and returns it with the users and roles
// that it names replaced by their unique ids. A role deleted and made again
// under the same name is thereby not the one that was trusted.
func (s *state) bindPrincipals(text string) (string, *apiError) {
	if e := checkDocument(text, policy.TrustPolicy); e != nil {
		return "", e
	}
	d, err := policy.Parse([]byte(text))
	if err != nil {
		return "", malformedDocument("%s", clip(err.Error()))
	}
	for i := range d.Statements {
		for _, p := range []*policy.Principals{d.Statements[i].Principal, d.Statements[i].NotPrincipal} {
			if e := s.bind(p); e != nil {
				return "", e
			}
		}
	}
	bound, err := json.Marshal(d)
	if err != nil {
		return "", malformedDocument("%s", clip(err.Error()))
	}
	return string(bound), nil
}

var (
	servicePrincipal   = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)*\.amazonaws\.com$`)
	federatedDomain    = regexp.MustCompile(`^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$`)
	federatedARN       = regexp.MustCompile(`^arn:aws:iam::[0-9]{12}:(oidc-provider|saml-provider)/[!-~]+$`)
	errFederatedFormat = "Federated principals must be valid domain names or SAML metadata ARNs"
)

// bind replaces, in place, the ARNs of users and roles by their ids. Federated
// providers are names and not bound; they need not exist yet.
func (s *state) bind(p *policy.Principals) *apiError {
	if p == nil {
		return nil
	}
	for i, arn := range p.AWS {
		if arn == "*" {
			continue
		}
		id, ok := s.principalID(arn)
		if !ok {
			return malformedDocument("Invalid principal in policy: \"AWS\":\"%s\"", clip(arn))
		}
		p.AWS[i] = id
	}
	for _, name := range p.Federated {
		if !federatedDomain.MatchString(name) && !federatedARN.MatchString(name) {
			return malformedDocument("%s", errFederatedFormat)
		}
	}
	for _, name := range p.Service {
		if !servicePrincipal.MatchString(name) {
			return malformedDocument("Invalid principal in policy: \"SERVICE\":\"%s\"", clip(name))
		}
	}
	if len(p.CanonicalUser) > 0 {
		return malformedDocument("Invalid principal in policy: \"CANONICALUSER\":\"%s\"", clip(p.CanonicalUser[0]))
	}
	return nil
}

// showPrincipals is a stored trust policy as it is shown: with the ARNs of the
// principals that still exist, and the bare id of one that does not.
func (s *state) showPrincipals(text string) string {
	if !strings.Contains(text, "AROA") && !strings.Contains(text, "AIDA") {
		return text
	}
	d, err := policy.Parse([]byte(text))
	if err != nil {
		return text
	}
	for i := range d.Statements {
		for _, p := range []*policy.Principals{d.Statements[i].Principal, d.Statements[i].NotPrincipal} {
			if p == nil {
				continue
			}
			for j, id := range p.AWS {
				if arn, ok := s.principalARN(id); ok {
					p.AWS[j] = arn
				}
			}
		}
	}
	shown, err := json.Marshal(d)
	if err != nil {
		return text
	}
	return string(shown)
}
