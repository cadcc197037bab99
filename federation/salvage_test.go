package federation

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A statement that cannot be read is left out where it is about other services
// alone, and spoils the document where it may be about what we look at.
func TestReadDocumentLeavesOtherServicesOut(t *testing.T) {
	const good = `{"Sid":"S3","Effect":"Allow","Action":"s3:GetObject","Resource":"*"}`
	odd := func(effect, actions string) string {
		return `{"Effect":"` + effect + `","Action":` + actions + `,"Resource":"*","Condition":{"OddOperator":{"a:b":"c"}}}`
	}
	for _, c := range []struct {
		name, statement string
		readable        bool
	}{
		{"other service", odd("Allow", `"ec2:RunInstances"`), true},
		{"other services", odd("Allow", `["ec2:*","logs:Put*"]`), true},
		{"S3 among others", odd("Allow", `["ec2:*","S3:GetObject"]`), false},
		{"STS", odd("Allow", `"sts:AssumeRole"`), false},
		{"IAM", odd("Allow", `"iam:PutRolePolicy"`), false},
		{"everything", odd("Allow", `"*"`), false},
		{"pattern of services", odd("Allow", `"s*:Get*"`), false},
		{"deny", odd("Deny", `"ec2:RunInstances"`), false},
		{"not", strings.Replace(odd("Allow", `"ec2:*"`), "Action", "NotAction", 1), false},
		{"principal", strings.Replace(odd("Allow", `"ec2:*"`), `"Resource"`, `"Principal":"*","Resource"`, 1), false},
	} {
		d := readDocument("test", json.RawMessage(`{"Version":"2012-10-17","Statement":[`+c.statement+`,`+good+`]}`))
		if got := d.Err == nil; got != c.readable {
			t.Errorf("%s: readable: got %v (%v), want %v", c.name, got, d.Err, c.readable)
		} else if got && (len(d.Policy.Statements) != 2 || d.Policy.Statements[1].Sid != "S3") {
			t.Errorf("%s: the other statement moved: %+v", c.name, d.Policy.Statements)
		}
	}
}

// An export that lists AWS' own policies as attached and lacks their documents is
// judged by what AWS publishes, and says so; one of a customer's is unread.
func TestCheckOfPoliciesWithoutDocument(t *testing.T) {
	a := checkAccount(t, nil, nil)
	plain, err := Render(a.Config, Plain)
	if err != nil {
		t.Fatal(err)
	}
	a.Bucket.Policy = plain.BucketPolicy
	a.Roles[0].Attached = []string{"arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"}
	report, err := Check(a)
	if err != nil || len(report.Findings) == 0 || report.Findings[0].Code != ForeignRead {
		t.Fatalf("got %+v (%v), want a foreign-read", report, err)
	}
	if !strings.Contains(strings.Join(report.Advice, " "), "AmazonS3ReadOnlyAccess") {
		t.Errorf("no word of the missing document: %q", report.Advice)
	}
	a.Roles[0].Attached = []string{"arn:aws:iam::111122223333:policy/own"}
	if report, err = Check(a); err != nil || report.ExitStatus() != 3 {
		t.Errorf("got exit status %d (%v), want 3", report.ExitStatus(), err)
	}
}

// The files of an account may be anything; reading and checking them ends without
// a panic.
func FuzzCheckFiles(f *testing.F) {
	seeds, err := filepath.Glob("testdata/corpus/*/iam.json")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds (%v)", err)
	}
	for i := 0; i < len(seeds); i += 20 {
		iam, err := os.ReadFile(seeds[i])
		if err != nil {
			f.Fatal(err)
		}
		bucket, err := os.ReadFile(filepath.Join(filepath.Dir(seeds[i]), fileBucketPolicy))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(iam), string(bucket))
	}
	config, err := json.Marshal(checkConfig())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, iam, bucket string) {
		dir := t.TempDir()
		for name, text := range map[string]string{fileConfig: string(config), fileIAM: iam, fileBucketPolicy: bucket} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		a, err := ReadAccount(dir)
		if err != nil {
			return
		}
		report, err := Check(a)
		if err != nil {
			return
		}
		for _, f := range report.Findings {
			if f.Witness.Principal == "" || f.Witness.Action == "" || f.Title == "" || f.Fix == "" {
				t.Errorf("a finding without its witness: %+v", f)
			}
		}
	})
}
