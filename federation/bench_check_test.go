package federation

import "testing"

// BenchmarkCheckReference checks the reference set-up; bench has the account of a
// hundred roles.
func BenchmarkCheckReference(b *testing.B) {
	a := checkAccount(b, nil, nil)
	for b.Loop() {
		r, err := Check(a)
		if err != nil || len(r.Findings) > 0 {
			b.Fatal(r, err)
		}
	}
}
