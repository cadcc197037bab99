package main

import (
	"agentkeys/broker"
	"agentkeys/config"
	"agentkeys/token"
)

// startOf is what a broker records of its start.
func startOf(keys keySet, environ []string) broker.Start {
	f := config.FingerprintOf(environ)
	s := broker.Start{Version: version(), Configuration: f.SHA256, Variables: f.Set}
	add := func(purpose token.Purpose, keys []*token.Key) {
		for i, k := range keys {
			s.Keys = append(s.Keys, broker.LoadedKey{ID: k.ID(), Purpose: string(purpose), Signs: i == 0})
		}
	}
	add(token.PurposeOIDC, keys.oidc)
	add(token.PurposeSession, keys.session)
	s.Keys = append(s.Keys, broker.LoadedKey{ID: keys.audit.ID(), Purpose: string(token.PurposeAudit), Signs: true})
	return s
}
