package grant

import (
	"encoding/json"
	"fmt"
	"regexp"
	"time"
)

// Target is where the tenants' folders are at AWS.
type Target struct {
	Partition string // "aws", "aws-cn", …
	Bucket    string
	Prefix    string // tenants live at <prefix>/<tenant>/
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
	Action      []string                     `json:",omitempty"`
	NotAction   []string                     `json:",omitempty"`
	Resource    []string                     `json:",omitempty"`
	NotResource []string                     `json:",omitempty"`
	Condition   map[string]map[string]string `json:",omitempty"`
}

var tenantTag = regexp.MustCompile(`^(?:0x[0-9a-f]{40}|[0-9a-f]{64})$`)

// SessionPolicy is the inline session policy of credentials for a path of a
// tenant's folder: the actions there and nothing else, until then.
//
// Each limit is there twice. The allows bound what comes from the role's own
// policies and from a bucket policy that names the role; the denies bound what
// they do not reach, a bucket policy that names "*" or the session (IAM User
// Guide, "Policy evaluation logic": those are not limited by an implicit deny).
// The end of the grant is a deny as well, since a session cannot be shorter than
// fifteen minutes.
func SessionPolicy(t Target, tenant string, p Path, actions Actions, until time.Time) (string, error) {
	if !tenantTag.MatchString(tenant) {
		return "", fmt.Errorf("compiling a session policy: tenant: want 0x and 40 or plain 64 lower-case hexadecimal digits, got %.80q", tenant)
	}
	if _, err := ParsePath(string(p)); err != nil {
		return "", fmt.Errorf("compiling a session policy: path: %w", err)
	}
	if len(actions) == 0 || until.IsZero() {
		return "", fmt.Errorf("compiling a session policy: want actions and an end, got %d actions until %s", len(actions), stamp(until))
	}
	data, err := json.Marshal(document{"2012-10-17", statements(t, p.under(t.Prefix, tenant), actions, until)})
	if err != nil {
		return "", fmt.Errorf("compiling a session policy: %w", err)
	}
	if len(data) > maxSessionPolicy {
		return "", fmt.Errorf("compiling a session policy: want at most %d characters, got %d: the path is too long", maxSessionPolicy, len(data))
	}
	return string(data), nil
}

func statements(t Target, folder string, actions Actions, until time.Time) []statement {
	bucket := "arn:" + t.Partition + ":s3:::" + t.Bucket
	objects := bucket + "/" + folder + "*"
	var onObjects, onAll []string
	list := false
	for _, a := range actions {
		switch a {
		case ActionList:
			list = true
			onAll = append(onAll, "s3:ListBucket")
		case ActionGet:
			onObjects = append(onObjects, "s3:GetObject")
		case ActionPut:
			onObjects = append(onObjects, "s3:PutObject")
		case ActionDelete:
			onObjects = append(onObjects, "s3:DeleteObject")
		}
	}
	onAll = append(onAll, onObjects...)
	reach := []string{}
	var all []statement
	if len(onObjects) > 0 {
		all = append(all, statement{Effect: "Allow", Action: onObjects, Resource: []string{objects}})
		reach = append(reach, objects)
	}
	if list {
		all = append(all,
			statement{Effect: "Allow", Action: []string{"s3:ListBucket"}, Resource: []string{bucket},
				Condition: map[string]map[string]string{"StringLike": {"s3:prefix": folder + "*"}}},
			statement{Effect: "Deny", Action: []string{"s3:ListBucket"}, Resource: []string{"*"},
				Condition: map[string]map[string]string{"StringNotLike": {"s3:prefix": folder + "*"}}})
		reach = append(reach, bucket)
	}
	return append(all,
		statement{Effect: "Deny", NotAction: onAll, Resource: []string{"*"}},
		statement{Effect: "Deny", Action: []string{"*"}, NotResource: reach},
		statement{Effect: "Deny", Action: []string{"*"}, Resource: []string{"*"},
			Condition: map[string]map[string]string{"DateGreaterThanEquals": {"aws:CurrentTime": stamp(until)}}})
}
