package federation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"agentkeys/policy"
)

// The files of an exported account. Each is the output of an AWS CLI call as it is.
const (
	fileConfig       = "federation.json"
	fileIAM          = "iam.json"
	fileBucketPolicy = "bucket-policy.json"
	fileProviders    = "oidc-providers.json"
	filePublicAccess = "public-access-block.json"
	fileOwnership    = "ownership-controls.json"
	fileACL          = "bucket-acl.json"
	fileAccessPoints = "access-points.json"
	fileOrganization = "organization.json"
)

// requiredFiles says of the files that must be there where they come from.
var requiredFiles = map[string]string{
	fileConfig:       "our own configuration, as agentkeys federation check --save writes it",
	fileIAM:          "the output of aws iam get-account-authorization-details",
	fileBucketPolicy: "the output of aws s3api get-bucket-policy, or {} where there is none",
}

// maxFile is how much of a file is read, in bytes: an account of the largest
// quota has less.
const maxFile = 256 << 20

// ReadAccount reads an account from a folder of files. Those of the
// configuration, of IAM and of the bucket policy must be there; a file that is
// not there besides was not looked at. Policy documents may be JSON, JSON in a
// string, or percent-encoded JSON in a string. A document that cannot be read is
// kept with its error; an error of ReadAccount is about a file as a whole.
func ReadAccount(dir string) (*Account, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		if err == nil {
			err = errors.New("not a folder")
		}
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, fmt.Errorf("reading the account's files in %q: %w", dir, err)
	}
	r := folder{dir: dir, read: func(name string) ([]byte, error) { return readFile(filepath.Join(dir, name)) }}
	return r.readAccount("files: " + dir)
}

func (r folder) readAccount(source string) (*Account, error) {
	a := &Account{Source: source, Managed: map[string]Document{}}
	r.account = a
	if err := errors.Join(r.config(), r.iam(), r.bucketPolicy()); err != nil {
		return nil, err
	}
	err := errors.Join(r.providers(), r.publicAccess(), r.ownership(), r.acl(), r.accessPoints(), r.organization())
	if err != nil {
		return nil, err
	}
	return a, nil
}

// folder is the files of an account, on disk or as Fetch got them.
type folder struct {
	dir     string                            // "" for files that are not on disk
	read    func(name string) ([]byte, error) // fs.ErrNotExist for a file that is not there
	missing map[string]string                 // why a file is not there, where that is known
	account *Account
}

// decode reads one file as JSON. It reports whether the file was there.
func (r folder) decode(name string, into any) (bool, error) {
	data, err := r.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", filepath.Join(r.dir, name), err)
	}
	return true, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err // whose text leaves out the path, which the caller names
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("want at most %d bytes, got more", maxFile)
	}
	return bytes.TrimPrefix(data, []byte("\ufeff")), err // PowerShell's > writes one
}

// require is decode for a file that must be there.
func (r folder) require(name string, into any) error {
	there, err := r.decode(name, into)
	if err == nil && !there {
		err = fmt.Errorf("reading %s: %w; it is %s", filepath.Join(r.dir, name), fs.ErrNotExist, requiredFiles[name])
	}
	return err
}

func (r folder) config() error {
	var members map[string]json.RawMessage
	if err := r.require(fileConfig, &members); err != nil {
		return err
	}
	c := Config{Role: DefaultRole, Prefix: DefaultPrefix, TagKey: DefaultTagKey, Audience: DefaultAudience}
	if _, err := r.decode(fileConfig, &c); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains(configMembers, name) {
			r.account.Remarks = append(r.account.Remarks, fmt.Sprintf("%s has a member %q, which is not known and was not used", fileConfig, name))
		}
	}
	r.account.Config = c
	return c.Validate()
}

var configMembers = []string{"issuer", "account", "region", "role", "bucket", "prefix", "tag_key", "audience", "administrators"}

// The shapes of get-account-authorization-details.
type (
	jsonDetails struct {
		UserDetailList  *[]jsonEntity
		GroupDetailList *[]jsonEntity
		RoleDetailList  *[]jsonEntity
		Policies        []jsonManaged

		// Of the API's answer, or of the CLI's with --max-items: there is more.
		IsTruncated bool
		NextToken   string
	}
	jsonEntity struct {
		UserName, GroupName, RoleName string
		UserID                        string `json:"UserId"`
		GroupID                       string `json:"GroupId"`
		RoleID                        string `json:"RoleId"`
		Arn, Path                     string
		UserPolicyList                []jsonInline
		GroupPolicyList               []jsonInline
		RolePolicyList                []jsonInline
		GroupList                     []string
		AttachedManagedPolicies       []struct{ PolicyArn string }
		PermissionsBoundary           *struct{ PermissionsBoundaryArn string }
		Tags                          []struct{ Key, Value string }
		AssumeRolePolicyDocument      json.RawMessage
		MaxSessionDuration            int // of get-role's output; the details lack it
	}
	jsonInline struct {
		PolicyName     string
		PolicyDocument json.RawMessage
	}
	jsonManaged struct {
		Arn, DefaultVersionID string
		PolicyVersionList     []struct {
			Document         json.RawMessage
			VersionID        string `json:"VersionId"`
			IsDefaultVersion bool
		}
	}
)

func (r folder) iam() error {
	var d jsonDetails
	if err := r.require(fileIAM, &d); err != nil {
		return err
	}
	if d.RoleDetailList == nil {
		return fmt.Errorf("reading %s: want the output of aws iam get-account-authorization-details, got no RoleDetailList", filepath.Join(r.dir, fileIAM))
	}
	if d.IsTruncated || d.NextToken != "" {
		return fmt.Errorf("reading %s: want all of the account, got one page of it; export it without --max-items and --no-paginate", filepath.Join(r.dir, fileIAM))
	}
	a := r.account
	for _, list := range []struct {
		name    string
		missing bool
	}{{"users", d.UserDetailList == nil}, {"groups", d.GroupDetailList == nil}} {
		if list.missing {
			a.NotLookedAt = append(a.NotLookedAt, list.name+" ("+fileIAM+" has none listed)")
		}
	}
	for _, e := range deref(d.UserDetailList) {
		a.Users = append(a.Users, User{e.entity("user "+e.UserName, e.UserName, e.UserID, e.UserPolicyList), e.GroupList})
	}
	for _, e := range deref(d.GroupDetailList) {
		a.Groups = append(a.Groups, Group{e.entity("group "+e.GroupName, e.GroupName, e.GroupID, e.GroupPolicyList)})
	}
	for _, e := range *d.RoleDetailList {
		role := "role " + e.RoleName
		if e.Arn == "" {
			return fmt.Errorf("reading %s: %s: want an Arn, got none", filepath.Join(r.dir, fileIAM), role)
		}
		a.Roles = append(a.Roles, Role{
			Entity: e.entity(role, e.RoleName, e.RoleID, e.RolePolicyList), Path: e.Path,
			Trust: readDocument(role+", trust policy", e.AssumeRolePolicyDocument), MaxSession: e.MaxSessionDuration,
		})
	}
	for _, m := range d.Policies {
		a.Managed[m.Arn] = m.document()
	}
	return nil
}

func deref[T any](p *T) T {
	if p == nil {
		var none T
		return none
	}
	return *p
}

func (e jsonEntity) entity(called, name, id string, inline []jsonInline) Entity {
	out := Entity{Name: name, ARN: e.Arn, ID: id, Tags: map[string]string{}}
	for _, p := range inline {
		out.Inline = append(out.Inline, readDocument(called+", inline policy "+p.PolicyName, p.PolicyDocument))
	}
	for _, p := range e.AttachedManagedPolicies {
		out.Attached = append(out.Attached, p.PolicyArn)
	}
	if e.PermissionsBoundary != nil {
		out.Boundary = e.PermissionsBoundary.PermissionsBoundaryArn
	}
	for _, t := range e.Tags {
		out.Tags[t.Key] = t.Value
	}
	return out
}

// document is the default version, which alone is in force.
func (m jsonManaged) document() Document {
	name := "managed policy " + m.Arn
	for _, v := range m.PolicyVersionList {
		if v.IsDefaultVersion || v.VersionID != "" && v.VersionID == m.DefaultVersionID || len(m.PolicyVersionList) == 1 {
			return readDocument(name, v.Document)
		}
	}
	return Document{Name: name, Err: fmt.Errorf("%s: want its default version, got none", name)}
}

// readDocument reads a policy document as the CLI or the raw API give it.
func readDocument(name string, raw json.RawMessage) Document {
	d := Document{Name: name}
	text := string(bytes.TrimSpace(raw))
	if text == "" || text == "null" {
		d.Err = fmt.Errorf("%s: want a policy document, got none", name)
		return d
	}
	if text[0] == '"' {
		if d.Err = json.Unmarshal(raw, &text); d.Err != nil {
			return d
		}
	}
	if d.Policy, d.Err = parseDocument(text); d.Err != nil {
		if plain, err := plainDocument(text); err == nil {
			d.Policy, d.Err = salvage(plain, d.Err)
		}
	}
	if d.Err != nil {
		d.Err = fmt.Errorf("%s: %w", name, d.Err)
	}
	return d
}

// parseDocument reads JSON or, as IAM's API has it, percent-encoded JSON.
func parseDocument(text string) (*policy.Document, error) {
	text, err := plainDocument(text)
	if err != nil {
		return nil, err
	}
	return policy.Parse([]byte(text))
}

// plainDocument undoes the percent-encoding of a document, where there is one.
func plainDocument(text string) (string, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "{") {
		return text, nil
	}
	return url.PathUnescape(text)
}

func (r folder) bucketPolicy() error {
	var f struct{ Policy json.RawMessage }
	if err := r.require(fileBucketPolicy, &f); err != nil {
		return err
	}
	r.account.Bucket = optionalDocument("bucket policy", f.Policy)
	return nil
}

// optionalDocument is readDocument for a document that need not be there.
func optionalDocument(name string, raw json.RawMessage) Document {
	if text := string(bytes.TrimSpace(raw)); text == "" || text == "null" || text == `""` {
		return Document{Name: name}
	}
	return readDocument(name, raw)
}

// optional decodes a file that need not be there, and notes where it is not.
func (r folder) optional(name, what string, into any) (bool, error) {
	there, err := r.decode(name, into)
	if err == nil && !there {
		why := r.missing[name]
		if why == "" {
			why = "no " + name
		}
		r.account.NotLookedAt = append(r.account.NotLookedAt, what+" ("+why+")")
	}
	return there, err
}

func (r folder) providers() error {
	var list []struct {
		Arn, URL     string
		ClientIDList []string
	}
	there, err := r.optional(fileProviders, "OIDC providers and their client ids", &list)
	if !there {
		return err
	}
	r.account.Providers = []Provider{}
	for _, p := range list {
		if p.Arn == "" {
			return fmt.Errorf("reading %s: want an Arn for each provider, got none", filepath.Join(r.dir, fileProviders))
		}
		r.account.Providers = append(r.account.Providers, Provider{p.Arn, p.URL, p.ClientIDList})
	}
	return nil
}

func (r folder) publicAccess() error {
	var f struct{ PublicAccessBlockConfiguration PublicAccessBlock }
	there, err := r.optional(filePublicAccess, "the bucket's public access block", &f)
	if there {
		r.account.PublicAccess = &f.PublicAccessBlockConfiguration
	}
	return err
}

func (r folder) ownership() error {
	var f struct{ OwnershipControls OwnershipControls }
	there, err := r.optional(fileOwnership, "the bucket's ownership controls", &f)
	if there {
		r.account.Ownership = &f.OwnershipControls
	}
	return err
}

func (r folder) acl() error {
	var f struct {
		Owner  struct{ ID string }
		Grants []struct {
			Grantee    struct{ Type, URI, ID string }
			Permission string
		}
	}
	there, err := r.optional(fileACL, "the bucket's ACL", &f)
	if !there {
		return err
	}
	acl := &ACL{Owner: f.Owner.ID}
	for _, g := range f.Grants {
		acl.Grants = append(acl.Grants, Grant{g.Grantee.Type, g.Grantee.URI, g.Grantee.ID, g.Permission})
	}
	r.account.ACL = acl
	return nil
}

func (r folder) accessPoints() error {
	var list []struct {
		Name, Bucket, AccessPointArn string
		VpcConfiguration             *struct {
			VpcID string `json:"VpcId"`
		}
		Policy                         json.RawMessage
		PublicAccessBlockConfiguration *PublicAccessBlock
	}
	there, err := r.optional(fileAccessPoints, "access points", &list)
	if !there {
		return err
	}
	c := r.account.Config
	r.account.AccessPoints = []AccessPoint{}
	for _, p := range list {
		if p.Bucket != "" && p.Bucket != c.Bucket {
			continue // of another bucket
		}
		ap := AccessPoint{Name: p.Name, ARN: p.AccessPointArn, PublicAccess: p.PublicAccessBlockConfiguration,
			Policy: optionalDocument("access point "+p.Name+", policy", p.Policy)}
		if ap.ARN == "" {
			ap.ARN = c.accessPointARN(p.Name)
		}
		if p.VpcConfiguration != nil {
			ap.VPC = p.VpcConfiguration.VpcID
		}
		r.account.AccessPoints = append(r.account.AccessPoints, ap)
	}
	return nil
}

func (c Config) accessPointARN(name string) string {
	return "arn:" + c.Partition() + ":s3:" + c.Region + ":" + c.Account + ":accesspoint/" + name
}

type jsonLevel struct {
	Target   string
	Policies []struct {
		Name     string
		Document json.RawMessage
	}
}

func (r folder) organization() error {
	var f struct {
		ServiceControlPolicies  *[]jsonLevel
		ResourceControlPolicies *[]jsonLevel
	}
	there, err := r.decode(fileOrganization, &f)
	if err != nil {
		return err
	}
	if there {
		r.account.Organization = &Organization{
			Service:  levels("service control policy", f.ServiceControlPolicies),
			Resource: levels("resource control policy", f.ResourceControlPolicies),
		}
	}
	if f.ServiceControlPolicies == nil {
		r.account.NotLookedAt = append(r.account.NotLookedAt, "service control policies")
	}
	if f.ResourceControlPolicies == nil {
		r.account.NotLookedAt = append(r.account.NotLookedAt, "resource control policies")
	}
	return nil
}

func levels(what string, list *[]jsonLevel) []Level {
	if list == nil {
		return nil
	}
	out := []Level{}
	for _, l := range *list {
		level := Level{Target: l.Target}
		for _, p := range l.Policies {
			level.Policies = append(level.Policies, readDocument(what+" "+p.Name+" at "+l.Target, p.Document))
		}
		out = append(out, level)
	}
	return out
}
