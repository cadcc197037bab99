package grant

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Target is where the tenants' folders are at AWS.
type Target struct {
	Partition string // "aws", "aws-cn", …
	Bucket    string
	Prefix    string // tenants live at <prefix>/<tenant>/
}

// The forms of a Target: those of package federation, in which nothing is a
// wildcard or a policy variable.
var (
	partitionForm = regexp.MustCompile(`^aws(?:-[a-z]+)*$`)
	bucketForm    = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]+[a-z0-9]$`)
	prefixForm    = regexp.MustCompile(`^[A-Za-z0-9!_.'()-]+(?:/[A-Za-z0-9!_.'()-]+)*$`)
)

func (t Target) checkForms() error {
	switch {
	case !partitionForm.MatchString(t.Partition):
		return fmt.Errorf("partition: want one like aws, got %.80q", t.Partition)
	case len(t.Bucket) > 63 || !bucketForm.MatchString(t.Bucket):
		return fmt.Errorf("bucket: want 3 to 63 of a-z 0-9 . -, got %.80q", t.Bucket)
	case !prefixForm.MatchString(t.Prefix):
		return fmt.Errorf("prefix: want segments of A-Z a-z 0-9 ! _ . ' ( ) -, got %.80q", t.Prefix)
	}
	for segment := range strings.SplitSeq(t.Prefix, "/") {
		if segment == "." || segment == ".." {
			return fmt.Errorf("prefix: want segments that are names, got %.80q", t.Prefix)
		}
	}
	return nil
}

// Check refuses a target that no session policy can be compiled for, or not for
// every path: bucket and prefix leave room for the longest, so that no mint finds
// out later.
func (t Target) Check() error {
	if err := t.checkForms(); err != nil {
		return fmt.Errorf("target of grants: %w", err)
	}
	longest := strings.Repeat("0", 64) + "/" + strings.Repeat("p", maxPath)
	size := len(encode(statements(t, t.Prefix+"/"+longest+"/", AllActions(), time.Unix(0, 0))))
	if size > maxSessionPolicy {
		return fmt.Errorf("target of grants: want bucket and prefix that let a session policy have at most %d characters, got %d for a path of %d", maxSessionPolicy, size, maxPath)
	}
	return nil
}

// maxSessionPolicy is the bound of AWS on an inline session policy
// (AssumeRoleWithWebIdentity, Policy), in characters.
const maxSessionPolicy = 2048

type document struct {
	Version   string
	Statement []statement
}

type statement struct {
	Effect      string
	Action      texts                        `json:",omitempty"`
	NotAction   texts                        `json:",omitempty"`
	Resource    texts                        `json:",omitempty"`
	NotResource texts                        `json:",omitempty"`
	Condition   map[string]map[string]string `json:",omitempty"`
}

// texts is a list of which one is written as the value alone: every character
// counts.
type texts []string

// MarshalJSON writes the list.
func (t texts) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]string(t))
}

var tenantTag = regexp.MustCompile(`^(?:0x[0-9a-f]{40}|[0-9a-f]{64})$`)

// SessionPolicy is the inline session policy of credentials for a path of a
// tenant's folder: the actions there and nothing else, until then, to the second.
//
// Each limit is there twice. The allows bound what comes from the role's own
// policies and from a bucket policy that names the role; the denies bound what
// they do not reach, a bucket policy that names "*" or the session (IAM User
// Guide, "Policy evaluation logic": those are not limited by an implicit deny).
// The end of the grant is a deny as well, since a session cannot be shorter than
// fifteen minutes.
//
// "Nothing else" has no exception: KMS is refused too, so a bucket must not be
// encrypted under a key of the account's own, and an interrupted multipart upload
// is the account's lifecycle rules' to clear away.
func SessionPolicy(t Target, tenant string, p Path, actions Actions, until time.Time) (string, error) {
	if err := checkPolicy(t, tenant, p, actions, until); err != nil {
		return "", fmt.Errorf("compiling a session policy: %w", err)
	}
	text := encode(statements(t, p.under(t.Prefix, tenant), actions, until))
	if len(text) > maxSessionPolicy {
		return "", fmt.Errorf("compiling a session policy: want at most %d characters, got %d: bucket, prefix and path are too long together", maxSessionPolicy, len(text))
	}
	return text, nil
}

func checkPolicy(t Target, tenant string, p Path, actions Actions, until time.Time) error {
	if err := t.checkForms(); err != nil {
		return err
	}
	if !tenantTag.MatchString(tenant) {
		return fmt.Errorf("tenant: want 0x and 40 or plain 64 lower-case hexadecimal digits, got %.80q", tenant)
	}
	if err := p.check(); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	if set, err := parseActions(actions.Strings()); err != nil || !slices.Equal(set, actions) {
		return fmt.Errorf("actions: want some of %s, got %.80q", AllActions(), actions)
	}
	if year := until.UTC().Year(); until.IsZero() || year > 9999 {
		return fmt.Errorf("end: want a time of a year from 1 to 9999, got %s", stamp(until))
	}
	return nil
}

// encode writes the document. Its texts are of forms that JSON needs no escapes
// for, and so it cannot fail.
func encode(all []statement) string {
	data, err := json.Marshal(document{"2012-10-17", all})
	if err != nil {
		panic(err)
	}
	return string(data)
}

// verbs are the actions of S3 on objects. Put is enough for uploads in parts.
var verbs = map[Action]string{ActionGet: "s3:GetObject", ActionPut: "s3:PutObject", ActionDelete: "s3:DeleteObject"}

const listing = "s3:ListBucket"

func statements(t Target, folder string, actions Actions, until time.Time) []statement {
	bucket := "arn:" + t.Partition + ":s3:::" + t.Bucket
	objects := bucket + "/" + folder + "*"
	var all []statement
	var on, reach, everywhere = texts{}, texts{}, texts{"*"}
	for _, a := range actions {
		if verb, found := verbs[a]; found {
			on = append(on, verb)
		}
	}
	if len(on) > 0 {
		all = append(all, statement{Effect: "Allow", Action: on, Resource: texts{objects}})
		reach = append(reach, objects)
	}
	if slices.Contains(actions, ActionList) {
		// The deny fires where there is no prefix at all, too.
		all = append(all,
			statement{Effect: "Allow", Action: texts{listing}, Resource: texts{bucket}, Condition: when("StringLike", "s3:prefix", folder+"*")},
			statement{Effect: "Deny", Action: texts{listing}, Resource: everywhere, Condition: when("StringNotLike", "s3:prefix", folder+"*")})
		on = append(on, listing)
		reach = append(reach, bucket)
	}
	return append(all,
		statement{Effect: "Deny", NotAction: on, Resource: everywhere},
		statement{Effect: "Deny", Action: everywhere, NotResource: reach},
		statement{Effect: "Deny", Action: everywhere, Resource: everywhere, Condition: when("DateGreaterThanEquals", "aws:CurrentTime", stamp(until))})
}

func when(operator, key, value string) map[string]map[string]string {
	return map[string]map[string]string{operator: {key: value}}
}
