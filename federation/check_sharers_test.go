package federation

import (
	"strings"
	"testing"
)

// TestCheckNamesSharers wants both roles that read by one managed policy of AWS in
// one finding, and a fix that can be done.
func TestCheckNamesSharers(t *testing.T) {
	a, err := ReadAccount("testdata/corpus/read-only-shared")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Check(a)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if !strings.HasSuffix(f.Title, "; so does one other by the same statement") {
			t.Errorf("%s: want a title that tells of the other role, got %q", f.Code, f.Title)
		}
		for _, want := range []string{"away from these", "role AWSReservedSSO_ReadOnlyAccess_153e7c2a26a2c0bd", "role inventory"} {
			if !strings.Contains(f.Fix, want) {
				t.Errorf("%s: want a fix with %q, got %q", f.Code, want, f.Fix)
			}
		}
	}
}

// TestCheckNamesSharersAnew wants the other role still found where the first is
// listed under administrators.
func TestCheckNamesSharersAnew(t *testing.T) {
	a, err := ReadAccount("testdata/corpus/read-only-shared")
	if err != nil {
		t.Fatal(err)
	}
	a.Config.Administrators = []string{"arn:aws:iam::111122223333:role/inventory"}
	r, err := Check(a)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if strings.Contains(f.Title+f.Fix, "inventory") || !strings.Contains(f.Fix, "AWSReservedSSO_ReadOnlyAccess") {
			t.Errorf("%s: want the role that is not listed alone, got %q, %q", f.Code, f.Title, f.Fix)
		}
	}
}
