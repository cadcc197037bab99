package grant

import (
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

// statement is one of the policy, with the one condition that it may have.
type statement struct {
	effect                                   string
	action, notAction, resource, notResource []string
	when                                     *condition
}

type condition struct{ operator, key, value string }

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
	if !isTenant(tenant) || tenant != strings.ToLower(tenant) {
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

// encode writes the document. It is written by hand since a mint waits for it: none
// of its texts, whose forms were checked, needs an escape.
func encode(all []statement) string {
	var b strings.Builder
	b.Grow(maxSessionPolicy * 3 / 4) // the usual one takes two thirds of it
	write(&b, `{"Version":"2012-10-17","Statement":[`)
	for i, s := range all {
		if i > 0 {
			b.WriteByte(',')
		}
		write(&b, `{"Effect":"`, s.effect, `"`)
		writeList(&b, "Action", s.action)
		writeList(&b, "NotAction", s.notAction)
		writeList(&b, "Resource", s.resource)
		writeList(&b, "NotResource", s.notResource)
		if c := s.when; c != nil {
			write(&b, `,"Condition":{"`, c.operator, `":{"`, c.key, `":"`, c.value, `"}}`)
		}
		b.WriteByte('}')
	}
	write(&b, "]}")
	return b.String()
}

func write(b *strings.Builder, texts ...string) {
	for _, text := range texts {
		b.WriteString(text)
	}
}

// writeList writes a list of one as the value alone: every character counts.
func writeList(b *strings.Builder, name string, texts []string) {
	switch len(texts) {
	case 0:
		return
	case 1:
		write(b, `,"`, name, `":"`, texts[0], `"`)
		return
	}
	write(b, `,"`, name, `":["`, texts[0])
	for _, text := range texts[1:] {
		write(b, `","`, text)
	}
	write(b, `"]`)
}

// verbs are the actions of S3 on objects. Put is enough for uploads in parts.
var verbs = map[Action]string{ActionGet: "s3:GetObject", ActionPut: "s3:PutObject", ActionDelete: "s3:DeleteObject"}

const listing = "s3:ListBucket"

func statements(t Target, folder string, actions Actions, until time.Time) []statement {
	bucket := "arn:" + t.Partition + ":s3:::" + t.Bucket
	objects := bucket + "/" + folder + "*"
	all := make([]statement, 0, 6)
	var on, reach []string
	everything := []string{"*"}
	for _, a := range actions {
		if verb, found := verbs[a]; found {
			on = append(on, verb)
		}
	}
	if len(on) > 0 {
		all = append(all, statement{effect: "Allow", action: on, resource: []string{objects}})
		reach = append(reach, objects)
	}
	if slices.Contains(actions, ActionList) {
		// The deny fires where there is no prefix at all, too.
		list := []string{listing}
		all = append(all,
			statement{effect: "Allow", action: list, resource: []string{bucket}, when: &condition{"StringLike", "s3:prefix", folder + "*"}},
			statement{effect: "Deny", action: list, resource: everything, when: &condition{"StringNotLike", "s3:prefix", folder + "*"}})
		on = append(on, listing)
		reach = append(reach, bucket)
	}
	return append(all,
		statement{effect: "Deny", notAction: on, resource: everything},
		statement{effect: "Deny", action: everything, notResource: reach},
		statement{effect: "Deny", action: everything, resource: everything, when: &condition{"DateGreaterThanEquals", "aws:CurrentTime", stamp(until)}})
}
