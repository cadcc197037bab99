package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"agentkeys/federation"
	"agentkeys/trail"
)

// maxProofReport bounds the report of a proof, which has some hundred probes.
const maxProofReport = 16 << 20

// readProofs reads the reports of proofs of the scope's role, each once however often it
// is named, and wants no session to be of two.
func readProofs(s trail.Scope, paths []string) (proofs []trail.Proof, err error) {
	read, of := map[string]bool{}, map[string]string{}
	for _, path := range paths {
		files, err := proofReports(path)
		if err != nil {
			return nil, fmt.Errorf("--proof: %w", err)
		}
		for _, file := range files {
			p, err := readProof(s, file)
			if err != nil {
				return nil, fmt.Errorf("--proof: %s: %w", file, err)
			}
			if read[p.Digest] {
				continue
			}
			read[p.Digest] = true
			for _, c := range p.Calls {
				if of[c.RequestID] != "" {
					return nil, fmt.Errorf("--proof: %s: want calls of its own, got the request %s, which is in %s", file, c.RequestID, of[c.RequestID])
				}
				of[c.RequestID] = file
			}
			proofs = append(proofs, p)
		}
	}
	return proofs, nil
}

// proofReports is the file, or those of the folder that "federation prove --out-dir" keeps.
func proofReports(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if proofFile.MatchString(e.Name()) && filepath.Ext(e.Name()) == ".json" {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("want reports that prove wrote as JSON, got none in %s", path)
	}
	return files, nil
}

func readProof(s trail.Scope, path string) (trail.Proof, error) {
	f, err := os.Open(path)
	if err != nil {
		return trail.Proof{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxProofReport+1))
	if err != nil {
		return trail.Proof{}, err
	}
	if len(text) > maxProofReport {
		return trail.Proof{}, fmt.Errorf("want a report of at most %d bytes, got more", maxProofReport)
	}
	r, err := federation.ReadProofRecord(text)
	if err != nil {
		return trail.Proof{}, err
	}
	if role := r.Config.RoleARN(); role != s.Role {
		return trail.Proof{}, fmt.Errorf("want a proof of the role %s, got one of %s", s.Role, role)
	}
	if provider := r.Config.ProviderARN(); s.Provider != "" && provider != s.Provider {
		return trail.Proof{}, fmt.Errorf("want a proof of the provider %s, got one of %s", s.Provider, provider)
	}
	digest := sha256.Sum256(text)
	p := trail.Proof{Source: path, Digest: hex.EncodeToString(digest[:]), From: r.StartedAt, To: r.FinishedAt}
	for _, e := range r.Exchanges {
		if e.RequestID != "" { // or nothing tells it from anybody's
			p.Calls = append(p.Calls, trail.ProofCall{At: e.At, SessionName: e.SessionName, Subject: e.Subject, Tag: e.Tag, Got: e.Answer == federation.Allowed, RequestID: e.RequestID})
		}
	}
	return p, nil
}
