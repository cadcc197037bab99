package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// A Fingerprint tells one configuration from another without showing either. No
// variable holds a secret; but one may hold an e-mail address.
type Fingerprint struct {
	SHA256 string // over every variable in the order of the table, those not set with their default; hexadecimal digits
	// Set has the variables of the environment. The digest tells two values apart, and
	// with 32 bits is too short to find one by trying.
	Set map[string]string
}

// FingerprintOf takes the fingerprint of an environment that Load accepts, in the form
// of os.Environ.
func FingerprintOf(environ []string) Fingerprint {
	given, _ := collect(environ)
	f := Fingerprint{Set: make(map[string]string)}
	all := sha256.New()
	for _, v := range table {
		value, ok := given[v.name]
		if !ok {
			value = v.standard
		} else {
			digest := sha256.Sum256([]byte(v.name + "=" + value))
			f.Set[v.name] = hex.EncodeToString(digest[:4])
		}
		fmt.Fprintf(all, "%s=%q\n", v.name, value)
	}
	f.SHA256 = hex.EncodeToString(all.Sum(nil))
	return f
}
