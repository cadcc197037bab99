package federation

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"agentkeys/policy"
)

// TestWaysIn opens one door at a time, by a bucket policy or by an identity policy,
// and names the probe that must find it open.
func TestWaysIn(t *testing.T) {
	withoutSeeder := []string{
		"get", "put", "delete", "list the tenants", "put without the slash", "delete a version", "parts of an upload",
		"abort an upload", "begin an upload",
	}
	for _, test := range doors() {
		for _, side := range []string{"bucket", "identity"} {
			t.Run(test.name+" by "+side, func(t *testing.T) {
				t.Parallel()
				a := newAccount(t)
				d := render(t, a.config, Plain)
				inline := map[string]*policy.Document{}
				if side == "bucket" {
					d.BucketPolicy = document(append(slices.Clone(d.BucketPolicy.Statements), test.grant)...)
				} else {
					own := test.grant
					own.Principal = nil
					inline["door"] = document(own)
				}
				a.setUp(t, d, inline)
				p := a.proof(t)
				if slices.Contains(withoutSeeder, test.name) {
					p.Seeder = nil // it is found without one too
				}
				r := prove(t, p)
				if got := find(t, r, test.found, "bob").Result; r.Verdict != Broken || got != Contrary {
					t.Errorf("verdict %s, %s is %s, want %s and %s", r.Verdict, test.found, got, Broken, Contrary)
				}
			})
		}
	}
}

// door is a grant that lets a tenant in where it must not be.
type door struct {
	name  string
	grant policy.Statement
	found string // probe that must find it open
}

func doors() []door {
	allow := func(role string, actions []string, resources ...string) policy.Statement {
		return policy.Statement{
			Sid: "Door", Effect: policy.Allow, Principal: &policy.Principals{AWS: []string{role}}, Action: actions, Resource: resources,
		}
	}
	c := testConfig()
	c.Bucket = "agentkeys-test"
	b, tag := c.BucketARN(), "${aws:PrincipalTag/"+c.TagKey+"}"
	role := "arn:aws:iam::000011112222:role/" + c.Role
	listing := func(prefixes ...string) policy.Statement {
		s := allow(role, []string{"s3:ListBucket"}, b)
		s.Condition = []policy.Condition{{Operator: "StringLike", Key: "s3:prefix", Values: prefixes}}
		return s
	}
	grouped := listing("bots/")
	grouped.Condition = append(grouped.Condition, policy.Condition{Operator: "StringEquals", Key: "s3:delimiter", Values: []string{"/"}})
	when := func(s policy.Statement, operator, key, value string) policy.Statement {
		s.Condition = []policy.Condition{{Operator: operator, Key: key, Values: []string{value}}}
		return s
	}
	objects := func(action string) policy.Statement { return allow(role, []string{action}, b+"/*") }
	list := allow(role, []string{"s3:ListBucket"}, b)
	return []door{
		{"list the tenants by a delimiter", grouped, "near.list_tenants"},
		{"get", allow(role, []string{"s3:GetObject"}, b+"/*"), "foreign.get"},
		{"put", allow(role, []string{"s3:PutObject"}, b+"/*"), "foreign.put"},
		{"delete", allow(role, []string{"s3:DeleteObject"}, b+"/*"), "foreign.delete"},
		{"list", allow(role, []string{"s3:ListBucket"}, b), "control.list_all"},
		{"list any prefix", listing("*"), "near.list_empty"},
		{"list the empty prefix", listing(""), "near.list_empty"},
		{"list the tenants", listing("bots/"), "near.list_tenants"},
		{"list the bare prefix", listing("bots"), "near.list_bare"},
		{"list without the slash", listing("bots/" + tag + "*"), "near.longer_list"},
		{"list exactly the tag", listing("bots/" + tag), "near.list_no_slash"},
		{"get without the slash", allow(role, []string{"s3:GetObject"}, b+"/bots/"+tag+"*"), "near.longer_get"},
		{"put without the slash", allow(role, []string{"s3:PutObject"}, b+"/bots/"+tag+"*"), "near.longer_put"},
		{"put in the parent folder", allow(role, []string{"s3:PutObject"}, b+"/bots/agentkeys-proof-*"), "near.parent_put"},
		{"get in the parent folder", allow(role, []string{"s3:GetObject"}, b+"/bots/agentkeys-proof-*"), "near.parent_get"},
		{"get in capitals", allow(role, []string{"s3:GetObject"}, b+"/bots/0X*"), "near.capitals_get"},
		{"put in capitals", allow(role, []string{"s3:PutObject"}, b+"/bots/0X*"), "near.capitals_put"},
		{"versions", allow(role, []string{"s3:ListBucketVersions"}, b), "near.list_versions"},
		{"uploads", allow(role, []string{"s3:ListBucketMultipartUploads"}, b), "near.list_uploads"},
		{"tags", allow(role, []string{"s3:GetObjectTagging"}, b+"/*"), "near.get_tags"},
		{"version", allow(role, []string{"s3:GetObjectVersion"}, b+"/*"), "near.get_version"},
		{"delete a version", objects("s3:DeleteObjectVersion"), "foreign.delete_version"},
		{"put tags", objects("s3:PutObjectTagging"), "near.put_tags"},
		{"delete tags", objects("s3:DeleteObjectTagging"), "near.delete_tags"},
		{"tags of a version", objects("s3:GetObjectVersionTagging"), "near.get_version_tags"},
		{"get the ACL", objects("s3:GetObjectAcl"), "near.get_acl"},
		{"put the ACL", objects("s3:PutObjectAcl"), "near.put_acl"},
		{"attributes", allow(role, []string{"s3:GetObject", "s3:GetObjectAttributes"}, b+"/*"), "near.get_attributes"},
		{"parts of an upload", objects("s3:ListMultipartUploadParts"), "near.list_parts"},
		{"abort an upload", objects("s3:AbortMultipartUpload"), "near.abort_upload"},
		{"begin an upload", objects("s3:PutObject"), "near.create_upload"},
		{"list by a delimiter", when(list, "StringEquals", "s3:delimiter", "/"), "near.list_folders"},
		{"list a few", when(list, "NumericLessThanEquals", "s3:max-keys", "10"), "near.list_one"},
		{"list a few tenants", listing("bots/0x"), "near.list_initial"},
		{"get by a link", when(objects("s3:GetObject"), "StringEquals", "s3:authType", "REST-QUERY-STRING"), "near.get_presigned"},
		{"read the bucket policy", allow(role, []string{"s3:GetBucketPolicy"}, b), "near.bucket_policy"},
		{"read the bucket's ACL", allow(role, []string{"s3:GetBucketAcl"}, b), "near.bucket_acl"},
		{"everything", allow(role, []string{"s3:*"}, b, b+"/*"), "near.copy_from"},
		{"everything, many", allow(role, []string{"s3:*"}, b, b+"/*"), "near.delete_many"},
		{"everything, onto", allow(role, []string{"s3:*"}, b, b+"/*"), "near.copy_onto"},
		{"everything, head", allow(role, []string{"s3:*"}, b, b+"/*"), "near.head"},
	}
}

// TestListingTheBuckets is a way in that only an identity policy can open.
func TestListingTheBuckets(t *testing.T) {
	a := newAccount(t)
	door := document(policy.Statement{Effect: policy.Allow, Action: []string{"s3:ListAllMyBuckets"}, Resource: []string{"*"}})
	a.setUp(t, render(t, a.config, Hardened), map[string]*policy.Document{"door": door})
	r := prove(t, a.proof(t))
	if p := find(t, r, "near.list_buckets", "bob"); r.Verdict != Broken || p.Result != Contrary {
		t.Errorf("verdict %s, near.list_buckets is %s: want %s and %s", r.Verdict, p.Result, Broken, Contrary)
	}
}

// TestWaysInForAnybody: what no session can do, somebody without one can.
func TestWaysInForAnybody(t *testing.T) {
	for action, found := range map[string]string{"s3:GetObject": "anonymous.get.", "s3:ListBucket": "anonymous.list."} {
		a := newAccount(t)
		d := render(t, a.config, Plain)
		d.PublicAccess = PublicAccessBlock{}
		resource := a.config.BucketARN()
		if action == "s3:GetObject" {
			resource += "/*"
		}
		d.BucketPolicy = document(append(slices.Clone(d.BucketPolicy.Statements), policy.Statement{
			Sid: "Anybody", Effect: policy.Allow, Principal: &policy.Principals{Any: true},
			Action: []string{action}, Resource: []string{resource},
			Condition: []policy.Condition{{Operator: "Null", Key: "aws:PrincipalArn", Values: []string{"true"}}},
		})...)
		a.setUp(t, d, nil)
		r := prove(t, a.proof(t))
		if r.Verdict != Broken || len(r.Broken) != 2 {
			t.Errorf("%s: verdict %s, broken %q: want %s by two probes", action, r.Verdict, r.Broken, Broken)
		}
		for _, owner := range []string{"alice", "bob"} {
			if p := find(t, r, found+owner, anonymous); p.Result != Contrary {
				t.Errorf("%s is %s, want %s", p.ID, p.Result, Contrary)
			}
		}
	}
}

// TestAnonymousRequestsAreUnsigned: a signed one would try a session's rights.
func TestAnonymousRequestsAreUnsigned(t *testing.T) {
	a := hardenedAccount(t)
	unsigned := map[string]bool{}
	a.intercept = func(_ string, _ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "" && !r.URL.Query().Has("X-Amz-Signature") {
			unsigned[r.Method+" "+r.URL.Path] = true
		}
		return false
	}
	r := prove(t, a.proof(t))
	for _, owner := range []string{"alice", "bob"} {
		p := find(t, r, "anonymous.get."+owner, anonymous)
		path := "/" + a.config.Bucket + strings.TrimPrefix(p.Resource, a.config.BucketARN())
		if !unsigned["GET "+path] || p.Result != AsExpected || p.RefusedBy.Layer != layerNotSaid {
			t.Errorf("%s: %s by %v, unsigned %v: want an unsigned request that was refused", p.ID, p.Result, p.RefusedBy, unsigned)
		}
	}
}

// TestVersionsAreNamed: where the bucket keeps versions, "null" would name none.
func TestVersionsAreNamed(t *testing.T) {
	a := hardenedAccount(t)
	got := map[string]string{}
	a.intercept = func(actor string, w http.ResponseWriter, r *http.Request) bool {
		if actor == "" && r.Method == http.MethodPut {
			w.Header().Set("X-Amz-Version-Id", "v-"+r.URL.Path[strings.LastIndex(r.URL.Path, "-")+1:])
		}
		if r.URL.Query().Has("versionId") {
			got[r.Method+" "+actor] += r.URL.Query().Get("versionId") + " "
		}
		return false
	}
	prove(t, a.proof(t))
	for who, want := range map[string]string{"GET bob": "v-read v-read ", "DELETE bob": "v-version "} {
		if got[who] != want {
			t.Errorf("%s asked for versions %q, want %q", who, got[who], want)
		}
	}
}

// TestBucketWithoutACLs: an answer that is about the bucket tells nothing of the
// caller, and setting an ACL there does nothing.
func TestBucketWithoutACLs(t *testing.T) {
	a := hardenedAccount(t)
	a.intercept = func(_ string, w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !r.URL.Query().Has("acl") {
			return false
		}
		recorded{400, "AccessControlListNotSupported", "The bucket does not allow ACLs"}.s3(w)
		return true
	}
	r := prove(t, a.proof(t))
	if p := find(t, r, "near.put_acl", "bob"); p.Actual != Held || r.Verdict != Proven {
		t.Errorf("near.put_acl is %s, verdict %s: want %s and %s", p.Actual, r.Verdict, Held, Proven)
	}
}

// TestUnfinishedUploadsAreAborted: the prover's own, and the one that it should
// not have been able to begin.
func TestUnfinishedUploadsAreAborted(t *testing.T) {
	for _, inline := range []map[string]*policy.Document{nil, {"all": wide()}} {
		a := newAccount(t)
		a.setUp(t, render(t, a.config, Plain), inline)
		r := prove(t, a.proof(t))
		out, err := a.aws.S3.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &a.config.Bucket})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Uploads) > 0 || len(r.Leftovers) > 0 {
			t.Errorf("left behind: %d uploads, reported %q", len(out.Uploads), r.Leftovers)
		}
	}
}

// TestUploadThatNobodyCanAbort: a leftover is named with what it takes to end it.
func TestUploadThatNobodyCanAbort(t *testing.T) {
	a := newAccount(t)
	door := document(policy.Statement{
		Effect: policy.Allow, Action: []string{"s3:PutObject", "s3:DeleteObject"}, Resource: []string{a.config.BucketARN() + "/*"},
	})
	a.setUp(t, render(t, a.config, Plain), map[string]*policy.Document{"door": door})
	p := a.proof(t)
	p.Seeder = nil
	r := prove(t, p)
	if len(r.Leftovers) != 2 || !strings.Contains(r.Leftovers[0], "/upload, unfinished upload ") {
		t.Errorf("leftovers %q, want the two uploads", r.Leftovers)
	}
}
