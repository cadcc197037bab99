package policy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

const (
	account   = "111122223333"
	foreign   = "444455556666"
	roleARN   = "arn:aws:iam::111122223333:role/agentkeys-data-role"
	sessARN   = "arn:aws:sts::111122223333:assumed-role/agentkeys-data-role/s1"
	userARN   = "arn:aws:iam::111122223333:user/alice"
	roleID    = "AROAEXAMPLEROLE00001"
	userID    = "AIDAEXAMPLEUSER00001"
	sessionID = roleID + ":s1"
	fedARN    = "arn:aws:sts::111122223333:federated-user/bob"
	rootARN   = "arn:aws:iam::111122223333:root"
	providerA = "arn:aws:iam::111122223333:oidc-provider/broker.example.com"
	bucketARN = "arn:aws:s3:::agentkeys-data"
	objectARN = bucketARN + "/bots/a/x"
)

func session() Principal {
	return Principal{Kind: RoleSession, Account: account, ARN: sessARN, Issuer: roleARN, ID: roleID, SessionID: sessionID}
}

func user() Principal {
	return Principal{Kind: User, Account: account, ARN: userARN, ID: userID}
}

func federated() Principal {
	return Principal{Kind: FederatedUser, Account: account, ARN: fedARN, Issuer: userARN, ID: userID}
}

func root() Principal { return Principal{Kind: Root, Account: account, ARN: rootARN} }

func webIdentity() Principal {
	return Principal{Kind: WebIdentity, Account: account, Provider: providerA}
}

// stranger is a role session of another account.
func stranger() Principal {
	return Principal{
		Kind: RoleSession, Account: foreign, ID: "AROAEXAMPLEROLE00009",
		ARN: "arn:aws:sts::444455556666:assumed-role/r/s", Issuer: "arn:aws:iam::444455556666:role/r",
	}
}

// compiled compiles a document given as text, under its own text as name.
func compiled(t testing.TB, text string) *Policy {
	t.Helper()
	d, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	p, err := Compile("test", d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// compiledFile compiles a document of testdata/reference.
func compiledFile(t testing.TB, name string) *Policy {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "reference", name))
	if err != nil {
		t.Fatal(err)
	}
	d, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(name, d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// statementJSON wraps the members of one statement in a document.
func statementJSON(members string) string {
	return `{"Version":"2012-10-17","Statement":{` + members + `}}`
}

// allowAll is an identity policy for everything.
const allowAll = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`

func quoted(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// check evaluates and explains, and wants both to say the same.
func check(t testing.TB, r *Request, s *Set) Decision {
	t.Helper()
	d, x := Evaluate(r, s), Explain(r, s)
	if d != x.Decision {
		t.Fatalf("Evaluate and Explain differ:\n%+v\n%+v", d, x.Decision)
	}
	return d
}
