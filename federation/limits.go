package federation

// notTried says what a proof of this kind does not cover, whatever it found. It
// tries calls from outside; what no call of its touches, it does not see.
func notTried(p Proof) []string {
	limits := []string{
		"other S3 calls",
		"grants tied to an address, a time, a header or a session's name",
		"changes to the role, or to the bucket's policy and settings",
		"tokens with an empty or ill-shaped tag, another audience or subject",
		"other tenants, roles, users and accounts",
	}
	if p.Seeder == nil {
		limits = append(limits, "objects beside the tenants' prefixes (no seeder to lay them)")
	}
	return limits
}
