package federation

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// sampleReport has a finding of each sort: let in, ambiguous, and kept out.
func sampleReport() *CheckReport {
	const tenant = "0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	return &CheckReport{
		Target: "files: audit/2026-11",
		Findings: []Finding{
			{
				Code: ForeignRead, Title: "a tenant's session reads another tenant's object",
				Witness: Witness{
					Principal: "session of role agentkeys-data-role, tagged " + tenant, Action: "s3:GetObject",
					Resource: "arn:aws:s3:::agentkeys-data/bots/0xbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/memory.json",
					Context:  map[string][]string{"aws:PrincipalTag/agentkeys_user_wallet": {tenant}, "aws:SecureTransport": {"true"}},
				},
				DecidedBy: []Statement{{Document: "role agentkeys-data-role, inline policy old", Statement: 0, Sid: "ReadAll"}},
				Fix:       "Take s3:GetObject out of the inline policy old: the bucket policy alone grants ${aws:PrincipalTag/agentkeys_user_wallet}'s prefix.",
			},
			{
				Code: IllShapedTag, Title: "a token with an empty tag gets a session; whether ForAllValues lets an empty value pass is not settled", Ambiguous: true,
				Witness: Witness{
					Principal: "bearer of the issuer's token", Action: "sts:AssumeRoleWithWebIdentity", Resource: "arn:aws:iam::000011112222:role/agentkeys-data-role",
					Context: map[string][]string{"aws:RequestTag/agentkeys_user_wallet": {""}, "aws:TagKeys": {"agentkeys_user_wallet", "team"}, "sts:TransitiveTagKeys": {}},
				},
				DecidedBy: []Statement{
					{Document: "role agentkeys-data-role, trust policy", Statement: 1},
					{Document: "bucket policy", Statement: 3, Sid: "TenantObjects"},
				},
				Fix: "Compare the tag with its shape.",
			},
			{
				Code: OwnerLockedOut, Title: "a tenant cannot list its own prefix",
				Witness: Witness{Principal: "session of role agentkeys-data-role, tagged " + tenant, Action: "s3:ListBucket", Resource: "arn:aws:s3:::agentkeys-data"},
				Fix:     "Allow s3:ListBucket where s3:prefix is the tenant's own.",
			},
		},
		Advice:      []string{"user admin may change IAM and is not listed as an administrator"},
		NotLookedAt: []string{"access points (no access-points.json)", "service control policies"},
		Unread:      []string{"managed policy arn:aws:iam::000011112222:policy/x: Statement 2: Effect: want Allow or Deny, got \"Maybe\""},
	}
}

func checkText(t *testing.T, r *CheckReport, colour bool) string {
	t.Helper()
	var out bytes.Buffer
	if err := r.WriteText(&out, colour); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// checkFindingLayout holds what is true of every text report.
func checkFindingLayout(t *testing.T, r *CheckReport) {
	t.Helper()
	plain, coloured := checkText(t, r, false), checkText(t, r, true)
	for line := range strings.Lines(plain) {
		line = strings.TrimSuffix(line, "\n")
		// The resource stands whole on its line, to be copied.
		if n := utf8.RuneCountInString(line); n > width && !strings.HasPrefix(line, "    on           ") {
			t.Errorf("a line of %d characters, want at most %d: %q", n, width, line)
		}
		if strings.TrimRight(line, " ") != line {
			t.Errorf("a line ends in spaces: %q", line)
		}
		if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("a line has control characters: %q", line)
		}
	}
	if sgr.ReplaceAllString(coloured, "") != plain {
		t.Error("colour changes the text")
	}
	first, _, _ := strings.Cut(plain, "\n")
	if want := "AgentKeys federation check: " + r.Verdict(); first != want {
		t.Errorf("first line %q, want %q", first, want)
	}
	if !strings.HasSuffix(plain, "\nverdict   "+r.Verdict()+"\n") {
		t.Error("the last line is not the verdict")
	}
}

func TestCheckReportText(t *testing.T) {
	r := sampleReport()
	checkFindingLayout(t, r)
	golden(t, "check/findings.txt", []byte(checkText(t, r, false)))
	clean := &CheckReport{Target: "AWS, account 000011112222, us-east-1", NotLookedAt: []string{"service control policies"}}
	checkFindingLayout(t, clean)
	golden(t, "check/clean.txt", []byte(checkText(t, clean, false)))
}

func TestCheckReportVerdict(t *testing.T) {
	way, kept, unsure := Finding{Code: ForeignRead}, Finding{Code: OwnerLockedOut}, Finding{Code: IllShapedTag, Ambiguous: true}
	for _, test := range []struct {
		want   string
		exit   int
		report CheckReport
	}{
		{"no way in found", 0, CheckReport{Advice: []string{"x"}, NotLookedAt: []string{"y"}}},
		{"1 way in", 1, CheckReport{Findings: []Finding{way}}},
		{"2 ways in", 1, CheckReport{Findings: []Finding{way, way}}},
		{"1 way in, 1 of them ambiguous", 1, CheckReport{Findings: []Finding{unsure}}},
		{"no way in found, owner locked out", 1, CheckReport{Findings: []Finding{kept}}},
		{"2 ways in, owner locked out, 1 of them ambiguous", 1, CheckReport{Findings: []Finding{way, kept, kept, unsure}}},
		{"no way in found, 1 document unread", 3, CheckReport{Unread: []string{"x"}}},
		{"1 way in, 2 documents unread", 1, CheckReport{Findings: []Finding{way}, Unread: []string{"x", "y"}}},
	} {
		if got := test.report.Verdict(); got != test.want {
			t.Errorf("verdict %q, want %q", got, test.want)
		}
		if got := test.report.ExitStatus(); got != test.exit {
			t.Errorf("%s: exit status %d, want %d", test.want, got, test.exit)
		}
		checkFindingLayout(t, &test.report)
	}
}

// hostile is text that a policy's author chose.
const hostile = "x\x1b[2J\r\nverdict   no way in found\u202e\u009b31m\x00" + "\xff{0} [here](http://example.com)"

// What a document says cannot forge a line of the report nor command a terminal.
func TestCheckReportOfHostileDocuments(t *testing.T) {
	long := strings.Repeat("very-long-name/", 40) + hostile
	r := &CheckReport{
		Target: hostile, Advice: []string{hostile, long}, NotLookedAt: []string{hostile}, Unread: []string{long},
		Findings: []Finding{{
			Code: Code(hostile), Title: hostile, Fix: long,
			Witness:   Witness{Principal: hostile, Action: hostile, Resource: long, Context: map[string][]string{hostile: {hostile, long}}},
			DecidedBy: []Statement{{Document: hostile, Statement: 1, Sid: hostile}, {Document: long, Statement: -1}},
		}},
	}
	checkFindingLayout(t, r)
	if got := strings.Count(checkText(t, r, false), "\nverdict   "); got != 1 {
		t.Errorf("%d verdicts", got)
	}
}

func TestCheckReportJSON(t *testing.T) {
	asJSON := func(r *CheckReport) []byte {
		var out bytes.Buffer
		if err := r.WriteJSON(&out); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	golden(t, "check/findings.json", asJSON(sampleReport()))
	r := &CheckReport{Findings: []Finding{{Code: ForeignRead, Witness: Witness{Context: map[string][]string{"aws:TagKeys": nil}}}}}
	for _, text := range [][]byte{asJSON(&CheckReport{}), asJSON(r)} {
		if bytes.Contains(text, []byte("null")) {
			t.Errorf("a list is null:\n%s", text)
		}
	}
	if r.Advice != nil || r.Findings[0].DecidedBy != nil {
		t.Error("writing the report changed it")
	}
	var back CheckReport
	if err := json.Unmarshal(asJSON(sampleReport()), &back); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(asJSON(&back), asJSON(sampleReport())) {
		t.Error("what is written reads as something else")
	}
}
