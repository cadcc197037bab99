package federation

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// WriteSARIF writes the report in the Static Analysis Results Interchange Format
// 2.1.0, for what gathers findings of many tools. The version is the program's.
//
// A document is named by the file of ReadAccount that holds it, also where the
// account was fetched: Files.Save would have put it there. Line numbers are not
// given, since IAM's documents have none.
func (r *CheckReport) WriteSARIF(w io.Writer, version string) error {
	run := sarifRun{
		Tool:        sarifTool{sarifDriver{Name: "agentkeys federation check", Version: version, Rules: sarifRules()}},
		Invocations: []sarifInvocation{r.sarifInvocation()},
		URIBases: map[string]sarifBase{sarifBaseID: {sarifText{
			"The folder of the account's files: the one given with --from, or written with --save."}}},
		Properties: map[string]any{"target": r.Target},
		Results:    []sarifResult{},
	}
	for _, f := range r.Findings {
		run.Results = append(run.Results, sarifFinding(f))
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(sarifLog{
		Schema:  "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
		Version: "2.1.0", Runs: []sarifRun{run},
	})
}

// The parts of a SARIF log that are written. Section numbers are those of SARIF
// 2.1.0 plus errata 01.
type (
	sarifLog struct { // 3.13
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct { // 3.14
		Tool        sarifTool            `json:"tool"`
		Invocations []sarifInvocation    `json:"invocations"`
		URIBases    map[string]sarifBase `json:"originalUriBaseIds"`
		Results     []sarifResult        `json:"results"`
		Properties  map[string]any       `json:"properties"`
	}
	sarifBase struct {
		Description sarifText `json:"description"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct { // 3.19
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct { // 3.49
		ID               string         `json:"id"`
		ShortDescription sarifText      `json:"shortDescription"`
		FullDescription  sarifText      `json:"fullDescription"`
		Help             sarifText      `json:"help"`
		Configuration    sarifLevel     `json:"defaultConfiguration"`
		Properties       map[string]any `json:"properties"`
	}
	sarifLevel struct {
		Level string `json:"level"`
	}
	sarifText struct { // 3.11
		Text string `json:"text"`
	}
	sarifInvocation struct { // 3.20
		Successful    bool                `json:"executionSuccessful"`
		ExitCode      int                 `json:"exitCode"`
		Notifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct { // 3.58
		Level   string    `json:"level"`
		Message sarifText `json:"message"`
	}
	sarifResult struct { // 3.27
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Level        string            `json:"level"`
		Message      sarifText         `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints"`
		Properties   map[string]any    `json:"properties"`
	}
	sarifLocation struct { // 3.28
		Physical *sarifPhysical `json:"physicalLocation,omitempty"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
	}
	sarifArtifact struct {
		URI     string `json:"uri"`
		URIBase string `json:"uriBaseId"`
	}
	sarifLogical struct { // 3.33
		Name          string `json:"name"`
		QualifiedName string `json:"fullyQualifiedName"`
		Kind          string `json:"kind"`
	}
)

const sarifBaseID = "ACCOUNT"

// sarifMessage is free text as a message (3.11.5, 3.11.6): braces would be
// placeholders, and a policy's pattern must not become a link.
func sarifMessage(s string) sarifText {
	return sarifText{sarifEscapes.Replace(printable(s))}
}

var sarifEscapes = strings.NewReplacer("{", "{{", "}", "}}", "](", "] (")

// sarifInvocation tells what was not seen, as a notification: it is no result.
func (r *CheckReport) sarifInvocation() sarifInvocation {
	in := sarifInvocation{Successful: len(r.Unread) == 0, ExitCode: r.ExitStatus()}
	for _, list := range []struct {
		level, lead string
		items       []string
	}{
		{"error", "could not be read: ", r.Unread}, {"warning", "not looked at: ", r.NotLookedAt}, {"note", "advice: ", r.Advice},
	} {
		for _, item := range list.items {
			in.Notifications = append(in.Notifications, sarifNotification{list.level, sarifMessage(list.lead + item)})
		}
	}
	return in
}

func sarifFinding(f Finding) sarifResult {
	level := "error"
	if f.Ambiguous {
		level = "warning"
	}
	w := f.Witness
	message := strings.TrimSuffix(f.Title, ".") + "."
	if witness := joined(" · ", w.Principal, w.Action, w.Resource); witness != "" {
		message += " Request: " + witness + "."
	}
	if f.Fix != "" {
		message += " Fix: " + strings.TrimSuffix(f.Fix, ".") + "."
	}
	return sarifResult{
		RuleID: string(f.Code), RuleIndex: slices.Index(Codes(), f.Code), Level: level, Message: sarifMessage(message),
		Locations: sarifLocations(f), Fingerprints: map[string]string{"agentkeysFinding/v1": f.fingerprint()},
		Properties: map[string]any{"ambiguous": f.Ambiguous, "witness": filledWitness(w)},
	}
}

// sarifLocations are the statements that decided, or, where none did, the
// configuration that does not come true.
func sarifLocations(f Finding) []sarifLocation {
	if len(f.DecidedBy) == 0 {
		return []sarifLocation{{Physical: &sarifPhysical{sarifArtifact{fileConfig, sarifBaseID}}}}
	}
	var locations []sarifLocation
	for _, s := range f.DecidedBy {
		l := sarifLocation{Logical: []sarifLogical{{
			Name: printable(joined(", ", s.Document, s.label())), QualifiedName: printable(joined("/", s.Document, s.label())), Kind: "object",
		}}}
		if file := documentFile(s.Document); file != "" {
			l.Physical = &sarifPhysical{sarifArtifact{file, sarifBaseID}}
		}
		locations = append(locations, l)
	}
	return locations
}

// documentFile is the file of ReadAccount that holds a document of that name.
func documentFile(document string) string {
	for _, d := range []struct{ prefix, file string }{
		{"bucket policy", fileBucketPolicy},
		{"bucket ACL", fileACL},
		{"access point ", fileAccessPoints},
		{"service control policy ", fileOrganization},
		{"resource control policy ", fileOrganization},
		{"OIDC provider ", fileProviders},
		{"role ", fileIAM}, {"user ", fileIAM}, {"group ", fileIAM}, {"managed policy ", fileIAM},
	} {
		if strings.HasPrefix(document, d.prefix) {
			return d.file
		}
	}
	return ""
}

// fingerprint is the same for the same finding in every run, also after a
// statement with a Sid has moved within its document.
func (f Finding) fingerprint() string {
	h := sha256.New()
	add := func(parts ...string) {
		for _, s := range parts {
			fmt.Fprintf(h, "%d:%s,", len(s), s)
		}
	}
	add(string(f.Code), f.Witness.Principal, f.Witness.Action, f.Witness.Resource)
	for _, key := range slices.Sorted(maps.Keys(f.Witness.Context)) {
		add(key)
		add(f.Witness.Context[key]...)
	}
	for _, s := range f.DecidedBy {
		which := s.Sid
		if which == "" {
			which = s.label()
		}
		add(s.Document, which)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func sarifRules() []sarifRule {
	var rules []sarifRule
	for _, code := range Codes() {
		r := ruleTexts[code]
		severity := "9.0" // GitHub's scale: critical from 9.0, high from 7.0
		if code == OwnerLockedOut || code == TenantNames {
			severity = "7.0"
		}
		rules = append(rules, sarifRule{
			ID: string(code), ShortDescription: sarifText{r.what}, FullDescription: sarifText{r.what + " " + r.why}, Help: sarifText{r.why + " " + r.help},
			Configuration: sarifLevel{"error"}, Properties: map[string]any{"security-severity": severity, "tags": []string{"security"}},
		})
	}
	return rules
}

// ruleTexts say for each code what it is, why it matters and what to do, in words
// that hold for every finding of the code.
var ruleTexts = map[Code]struct{ what, why, help string }{
	ForeignRead: {"Somebody else can read a tenant's objects.",
		"Permissions are a union: one statement anywhere that allows the read is enough, however careful the bucket policy is.",
		"Take S3 out of the named identity policy, or hold the named statement to the tenant's own prefix."},
	ForeignWrite: {"Somebody else can change what lies under a tenant's prefix.",
		"What an agent reads back steers what it does, so whoever writes there acts as that agent.",
		"Hold the named statement to the tenant's own prefix, and leave out the actions that tenants do not need."},
	ForeignList: {"Somebody else can learn a tenant's key names.",
		"A listing is never filtered by key: one that is allowed shows everything under the prefix asked for.",
		"Allow s3:ListBucket with a positive condition on s3:prefix alone, and the calls that know no prefix not at all."},
	TenantNames: {"Somebody else can learn which tenants exist.",
		"A listing of the tenants' common folder with a delimiter shows the name of each.",
		"Admit no s3:prefix that is shorter than a tenant's own prefix with its slash."},
	PublicAccess: {"Somebody who signs nothing can reach tenants' objects or their names.",
		"No credential is needed, so no session tag keeps anybody apart.",
		"Remove the statement or the ACL grant, and switch all four settings of the public access block on."},
	UntaggedSession: {"A session of the data role can be had without a tenant tag.",
		"What is written for tagged sessions alone does not hold such a session, and a tag on the role would fill the gap.",
		"Let the trust policy ask for the tag with a positive comparison such as StringLike; a negated one, IfExists and ForAllValues are satisfied by a tag that is missing."},
	IllShapedTag: {"A session can be had with a tag that is empty or not of a tenant's shape.",
		"A value with a slash names a folder inside another tenant's prefix, and an empty one the folder of all.",
		"Compare the tag with 0x and 40 characters or with 64 characters, and deny one that has a slash."},
	WrongAudience: {"A session can be had with a token that is meant for somebody else.",
		"Every client that is registered at the provider could use its tokens here.",
		"Compare the provider's aud with the configured audience, and remove client ids that nobody needs."},
	WrongSubject: {"A session can be had with a token whose subject is no agent.",
		"Tokens that the issuer gives to services or for tests would become tenants.",
		"Compare the provider's sub with agentkeys:agent:* in the trust policy."},
	WrongIssuer: {"A session can be had with a token of another issuer.",
		"Whoever holds that issuer's key chooses which tenant to be.",
		"Trust the configured provider alone."},
	TagChosenByCaller: {"A session can be had whose tenant tag the caller chose.",
		"Who may assume the role with tags of their own is every tenant at will.",
		"Let the data role trust the OIDC provider alone, and allow nobody else sts:TagSession on it."},
	PolicyEditable: {"A tenant's session can change what holds it.",
		"One call and every other guard is gone.",
		"Take the action away from the data role; tenants need none beyond their own objects."},
	ReachesOtherRole: {"A tenant's session can assume a role that reaches tenants' objects.",
		"The other role's rights are the tenant's then.",
		"Let that role trust neither the data role nor the OIDC provider."},
	OwnerLockedOut: {"A tenant cannot use its own prefix.",
		"The isolation holds by keeping everybody out, and whoever repairs that in a hurry opens it.",
		"Let the token's tags claim, the trust policy and the bucket policy follow one configuration; agentkeys federation render writes them."},
}
