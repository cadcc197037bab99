package federation

import "testing"

func BenchmarkCheckReference(b *testing.B) {
	a := checkAccount(b, nil, nil)
	for b.Loop() {
		r, err := Check(a)
		if err != nil || len(r.Findings) > 0 {
			b.Fatal(r, err)
		}
	}
}
