package federation

import (
	"fmt"
	"strconv"
)

func noKeyTold() *ToldError {
	return invalidToken("Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements")
}

// publishes reports whether what the issuer publishes is known for this token.
func (e *explainer) publishes() bool {
	return e.Issuer != nil && (e.token == nil || e.Issuer.Issuer == e.id.issuer)
}

// checkDiscovery holds the discovery document to what AWS wants of one. Where only
// a key set was given there is nothing to check.
func (e *explainer) checkDiscovery() ExplainStep {
	if !e.publishes() || e.Issuer.Discovery == nil && e.Issuer.DiscoveryProblem == "" {
		if e.publishes() && e.Issuer.KeySet != nil {
			e.remark("The keys were given; whether the issuer's discovery document leads to them was not looked at.")
		}
		return ExplainStep{}
	}
	s := stepPassed("discovery", "the issuer's discovery document can be had", "").compared(discoveryURL(e.Issuer.Issuer), "")
	const fix = "Make the document public at that URL over https, answered within 5 seconds and without a redirect."
	if p := e.Issuer.DiscoveryProblem; p != "" {
		return s.fails(p+" (as seen from this machine)", noKeyTold(), fix)
	}
	if _, p := readDiscovery(e.Issuer.Discovery, e.Issuer.Issuer); p != "" {
		return s.fails("the discovery document: "+p, noKeyTold(), "Correct the discovery document; it has to name the issuer byte for byte.")
	}
	if p := unreachableHost(e.Issuer.Issuer); p != "" {
		s = s.note("%s", p)
	}
	return s
}

// keySet reads the issuer's key set, or says why it is not there.
func (e *explainer) keySet() (ks *issuerKeySet, problem string) {
	if p := e.Issuer.KeySetProblem; p != "" {
		return nil, p + " (as seen from this machine)"
	}
	ks, err := readKeySet(e.Issuer.KeySet)
	if err != nil {
		return nil, "the key set: " + err.Error()
	}
	return ks, ""
}

// checkKey finds the key that the token names in the issuer's set.
func (e *explainer) checkKey() ExplainStep {
	s := stepPassed("key", "the issuer publishes the key that the token names", "")
	if e.token == nil {
		return e.noToken(s)
	}
	kid, named := e.token.KID()
	s.Got = "kid " + strconv.Quote(kid)
	if !named {
		s.Got = "no kid"
	}
	if known, problem := e.keysKnown(); !known {
		return s.unknown(problem, "Give the issuer's key set (--jwks), or let it be fetched.")
	}
	if e.Issuer.KeySet == nil && e.Issuer.KeySetProblem == "" {
		return s.notReached("the discovery document leads to no key set")
	}
	const fix = "Serve the key set at the jwks_uri, over https and without a redirect."
	ks, problem := e.keySet()
	if problem != "" {
		return s.fails(problem, noKeyTold(), fix)
	}
	s.Want = "one of " + ks.kids()
	c := ks.choose(e.token)
	if c.note != "" {
		s = s.note("%s", c.note)
	}
	if c.problem == "" {
		return s
	}
	s = s.fails(c.problem, noKeyTold(), "Correct the key in the issuer's set.")
	if c.unknown {
		s.Fix = "Publish the key that signs before signing with it, and keep it until its tokens have expired; then mint a fresh token."
		if other, found := ks.signsFor(e.token); found {
			s.Fix = fmt.Sprintf("The signature verifies with key %q: mint the header's kid as the set has it.", other)
		}
	}
	return s
}

func (e *explainer) keysKnown() (known bool, problem string) {
	switch {
	case e.Issuer == nil:
		return false, "the issuer's keys were not looked at"
	case !e.publishes():
		return false, fmt.Sprintf("the keys at hand are those of %q, not of the token's issuer", e.Issuer.Issuer)
	case e.Issuer.KeySet == nil && e.Issuer.KeySetProblem == "" && e.Issuer.Discovery == nil && e.Issuer.DiscoveryProblem == "":
		return false, "the issuer's keys were not looked at"
	}
	return true, ""
}

// checkSignature verifies with the key that was found.
func (e *explainer) checkSignature() ExplainStep {
	s := stepPassed("signature", "the signature verifies with that key", "")
	if e.token == nil {
		return e.noToken(s)
	}
	if known, problem := e.keysKnown(); !known {
		return s.unknown(problem, "")
	}
	if e.Issuer.KeySet == nil {
		return s.notReached("there is no key set")
	}
	ks, err := readKeySet(e.Issuer.KeySet)
	if err != nil {
		return s.notReached("there is no key set")
	}
	c := ks.choose(e.token)
	if c.key == nil || c.problem != "" {
		return s.notReached("there is no key to verify with")
	}
	if e.token.verifies(c.key) {
		return s
	}
	s = s.fails("the signature is not that key's, or the token was changed after it was signed",
		invalidToken("The web identity token provided could not be validated: its signature does not verify").inOtherWords(),
		"Use the token as it was minted. If it is, another key hides behind the same kid: give every key an id of its own.")
	if kid, found := ks.signsFor(e.token); found {
		s.Why = fmt.Sprintf("the signature is that of key %q of the set, and the header names another", kid)
		s.Fix = fmt.Sprintf("Mint the header's kid as %q.", kid)
	}
	return s
}
