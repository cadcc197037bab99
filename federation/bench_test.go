package federation

import "testing"

// BenchmarkProve is one whole proof against the local AWS in the same process.
func BenchmarkProve(b *testing.B) {
	a := hardenedAccount(b)
	p := a.proof(b)
	for b.Loop() {
		r, err := Prove(b.Context(), p)
		if err != nil || r.Verdict != Proven {
			b.Fatalf("%v, %v", r, err)
		}
	}
}
