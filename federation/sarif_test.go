package federation

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func asSARIF(t *testing.T, r *CheckReport) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := r.WriteSARIF(&out, "devel"); err != nil {
		t.Fatal(err)
	}
	checkSARIF(t, out.Bytes())
	return out.Bytes()
}

// checkSARIF holds a log against what SARIF 2.1.0 asks of the parts that we write.
// Section numbers are those of the standard with errata 01.
func checkSARIF(t *testing.T, data []byte) {
	t.Helper()
	var log struct {
		Schema  string `json:"$schema"`
		Version string
		Runs    []struct {
			Tool               struct{ Driver sarifDriver }
			Invocations        []sarifInvocation
			OriginalURIBaseIDs map[string]json.RawMessage `json:"originalUriBaseIds"`
			Results            *[]sarifResult
		}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || !strings.HasSuffix(log.Schema, "/sarif-schema-2.1.0.json") || len(log.Runs) != 1 {
		t.Fatalf("version %q, schema %q, %d runs", log.Version, log.Schema, len(log.Runs)) // 3.13.2 to 3.13.4
	}
	run := log.Runs[0]
	if run.Tool.Driver.Name == "" { // 3.19.8
		t.Error("the driver has no name")
	}
	if run.Results == nil { // 3.14.23: null would say that the run failed
		t.Error("no results, want a list even where it is empty")
		return
	}
	var ids []string
	for _, rule := range run.Tool.Driver.Rules {
		ids = append(ids, rule.ID)
		for _, m := range []sarifText{rule.ShortDescription, rule.FullDescription, rule.Help} {
			checkMessage(t, m)
			if m.Text == "" || !strings.HasSuffix(m.Text, ".") {
				t.Errorf("rule %s: message %q, want sentences", rule.ID, m.Text)
			}
		}
	}
	for _, in := range run.Invocations {
		for _, n := range in.Notifications {
			checkMessage(t, n.Message)
			if !slices.Contains([]string{"error", "warning", "note"}, n.Level) { // 3.58.6
				t.Errorf("notification of level %q", n.Level)
			}
		}
	}
	for i, r := range *run.Results {
		checkMessage(t, r.Message)
		if r.Message.Text == "" { // 3.27.11
			t.Errorf("result %d has no message", i)
		}
		if r.RuleIndex >= 0 && (r.RuleIndex >= len(ids) || ids[r.RuleIndex] != r.RuleID) { // 3.27.6
			t.Errorf("result %d of rule %q points to rule %d", i, r.RuleID, r.RuleIndex)
		}
		if len(r.Locations) == 0 {
			t.Errorf("result %d has no location", i)
		}
		for _, l := range r.Locations {
			if l.Physical == nil && len(l.Logical) == 0 { // 3.28.3, 3.28.4
				t.Errorf("result %d has an empty location", i)
			}
			if l.Physical == nil {
				continue
			}
			if _, ok := run.OriginalURIBaseIDs[l.Physical.Artifact.URIBase]; !ok { // 3.4.4
				t.Errorf("result %d is relative to %q, which is not in originalUriBaseIds", i, l.Physical.Artifact.URIBase)
			}
			if !regexp.MustCompile(`^[a-z-]+\.json$`).MatchString(l.Physical.Artifact.URI) {
				t.Errorf("result %d is in %q", i, l.Physical.Artifact.URI)
			}
		}
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(r.Fingerprints["agentkeysFinding/v1"]) {
			t.Errorf("result %d has fingerprints %v", i, r.Fingerprints)
		}
	}
}

// checkMessage sees that a message has neither placeholders nor links (3.11.5,
// 3.11.6).
func checkMessage(t *testing.T, m sarifText) {
	t.Helper()
	bare := strings.NewReplacer("{{", "", "}}", "").Replace(m.Text)
	if strings.ContainsAny(bare, "{}") || strings.Contains(bare, "](") {
		t.Errorf("a message has placeholders or links: %q", m.Text)
	}
}

func TestCheckReportSARIF(t *testing.T) {
	golden(t, "check/findings.sarif", asSARIF(t, sampleReport()))
	asSARIF(t, &CheckReport{})
	asSARIF(t, &CheckReport{Target: hostile, Advice: []string{hostile}, Findings: []Finding{{
		Code: ForeignRead, Title: hostile, Fix: hostile, Witness: Witness{Principal: hostile}, DecidedBy: []Statement{{Document: hostile, Sid: hostile}}}}})
}

// Every code has its rule, at its place.
func TestSARIFRules(t *testing.T) {
	rules := sarifRules()
	for i, code := range Codes() {
		if text, ok := ruleTexts[code]; rules[i].ID != string(code) || !ok || text.what == "" || text.why == "" || text.help == "" {
			t.Errorf("code %s: rule %+v", code, rules[i])
		}
	}
	if len(ruleTexts) != len(Codes()) {
		t.Errorf("%d rules for %d codes", len(ruleTexts), len(Codes()))
	}
}

func TestDocumentFile(t *testing.T) {
	for document, want := range map[string]string{
		"role r, inline policy p":                  fileIAM,
		"role r, trust policy":                     fileIAM,
		"user u, inline policy p":                  fileIAM,
		"group g, inline policy p":                 fileIAM,
		"managed policy arn:aws:iam::aws:policy/x": fileIAM,
		"bucket policy":                            fileBucketPolicy,
		"access point a, policy":                   fileAccessPoints,
		"service control policy s at root":         fileOrganization,
		"resource control policy s at root":        fileOrganization,
		"something else":                           "",
	} {
		if got := documentFile(document); got != want {
			t.Errorf("%s is in %q, want %q", document, got, want)
		}
	}
}

// A finding keeps its fingerprint while its statement moves, and no two findings
// share one.
func TestFingerprints(t *testing.T) {
	seen := map[string]int{}
	for i, f := range sampleReport().Findings {
		for _, change := range []func(*Finding){
			func(*Finding) {},
			func(f *Finding) { f.Witness.Action += "Version" },
			func(f *Finding) { f.Witness.Principal += "s" },
			func(f *Finding) { f.Code = TenantNames },
			func(f *Finding) { f.Witness.Context = map[string][]string{"s3:prefix": {"", "a"}} },
			func(f *Finding) { f.Witness.Context = map[string][]string{"s3:prefix": {"", "b"}} },
			func(f *Finding) {
				f.DecidedBy = append(f.DecidedBy, Statement{Document: "bucket policy", Statement: 7})
			},
			func(f *Finding) {
				f.DecidedBy = append(f.DecidedBy, Statement{Document: "bucket policy", Statement: 8})
			},
		} {
			changed := f
			changed.DecidedBy = slices.Clone(f.DecidedBy)
			change(&changed)
			if other, ok := seen[changed.fingerprint()]; ok {
				t.Errorf("findings %d and %d share a fingerprint", i, other)
			}
			seen[changed.fingerprint()] = i
		}
	}
	f := sampleReport().Findings[0]
	before := f.fingerprint()
	f.DecidedBy[0].Statement = 5
	f.Title, f.Fix = "in other words", "another fix"
	if f.fingerprint() != before {
		t.Error("the fingerprint changes when a statement with a Sid moves")
	}
}
