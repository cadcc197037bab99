package localaws

import (
	"crypto/rand"
	"encoding/base64"
	"slices"
	"strings"
	"sync"
	"time"

	"agentkeys/policy"
)

// stateFormat is the version of the state file that this code writes. A file
// of a higher one is refused.
const stateFormat = 1

// state is all that IAM knows. A published state is never changed: an update
// works on a copy, which takes its place once it is on disk.
type state struct {
	Account   string                    `json:"account"`
	AdminKey  string                    `json:"admin_key"`      // access key id made by Create
	Providers map[string]*provider      `json:"oidc_providers"` // by URL without its scheme
	Roles     map[string]*role          `json:"roles"`          // by name in lower case, as IAM tells names apart
	Users     map[string]*user          `json:"users"`          // likewise
	Groups    map[string]*group         `json:"groups"`         // likewise
	Policies  map[string]*managedPolicy `json:"policies"`       // by ARN
	Keys      map[string]*accessKey     `json:"access_keys"`    // by access key id
}

// entity is what roles, users and groups have in common.
type entity struct {
	Name     string            `json:"name"`
	Path     string            `json:"path"`
	ID       string            `json:"id"`
	Created  time.Time         `json:"created"`
	Inline   map[string]string `json:"inline_policies,omitempty"`   // name to document, as it was sent
	Attached []string          `json:"attached_policies,omitempty"` // ARNs of managed policies
	Boundary string            `json:"permissions_boundary,omitempty"`
	Tags     []tag             `json:"tags,omitempty"`
}

type tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type role struct {
	entity
	Description string `json:"description,omitempty"`
	MaxSession  int    `json:"max_session_seconds"`
	Trust       string `json:"trust_policy"` // principals bound to unique ids, see bindPrincipals
}

type user struct{ entity }

type group struct {
	entity
	Members []string `json:"members,omitempty"` // unique ids of users
}

// provider is a registered OIDC issuer.
type provider struct {
	URL         string    `json:"url"` // the issuer, with its scheme
	ClientIDs   []string  `json:"client_ids"`
	Thumbprints []string  `json:"thumbprints,omitempty"`
	Created     time.Time `json:"created"`
	Tags        []tag     `json:"tags,omitempty"`
}

// managedPolicy is a customer managed policy with its versions, at most five.
type managedPolicy struct {
	Name        string          `json:"name"`
	Path        string          `json:"path"`
	ID          string          `json:"id"`
	Description string          `json:"description,omitempty"`
	Created     time.Time       `json:"created"`
	Updated     time.Time       `json:"updated"`
	Default     int             `json:"default_version"`
	Latest      int             `json:"latest_version"` // numbers are never used twice
	Versions    []policyVersion `json:"versions"`
	Tags        []tag           `json:"tags,omitempty"`
}

type policyVersion struct {
	Number   int       `json:"number"`
	Document string    `json:"document"`
	Created  time.Time `json:"created"`
}

type accessKey struct {
	UserID  string    `json:"user_id"`
	Secret  string    `json:"secret"`
	Active  bool      `json:"active"`
	Created time.Time `json:"created"`
}

func newState(account string) *state {
	return &state{
		Account: account, Providers: map[string]*provider{}, Roles: map[string]*role{}, Users: map[string]*user{},
		Groups: map[string]*group{}, Policies: map[string]*managedPolicy{}, Keys: map[string]*accessKey{},
	}
}

// newID makes a unique id such as AROA…; it is never used for anything else
// again, which is what binds a stored policy to one principal.
func newID(prefix string) string { return prefix + rand.Text()[:17] }

func newAccessKeyID(prefix string) string { return prefix + rand.Text()[:16] }

// newSecret makes a secret access key: 240 random bits as 40 characters.
func newSecret() string {
	b := make([]byte, 30)
	rand.Read(b) // never fails, see crypto/rand
	return base64.StdEncoding.EncodeToString(b)
}

func (s *state) arn(kind string, path, name string) string {
	return "arn:aws:iam::" + s.Account + ":" + kind + path + name
}

func (s *state) roleARN(r *role) string   { return s.arn("role", r.Path, r.Name) }
func (s *state) userARN(u *user) string   { return s.arn("user", u.Path, u.Name) }
func (s *state) groupARN(g *group) string { return s.arn("group", g.Path, g.Name) }

func (s *state) policyARN(p *managedPolicy) string { return s.arn("policy", p.Path, p.Name) }

func (s *state) providerARN(p *provider) string {
	return s.arn("oidc-provider", "/", providerName(p.URL))
}

// sessionARN is how a role session names itself; the role's path is not in it.
func (s *state) sessionARN(r *role, session string) string {
	return "arn:aws:sts::" + s.Account + ":assumed-role/" + r.Name + "/" + session
}

// providerName is an issuer URL without its scheme: the tail of the provider's
// ARN and the prefix of its condition keys.
func providerName(url string) string {
	_, name, _ := strings.Cut(url, "://")
	return name
}

func (s *state) roleByARN(arn string) *role {
	r := s.Roles[strings.ToLower(arn[strings.LastIndexByte(arn, '/')+1:])]
	if r == nil || s.roleARN(r) != arn {
		return nil
	}
	return r
}

func (s *state) userByARN(arn string) *user {
	u := s.Users[strings.ToLower(arn[strings.LastIndexByte(arn, '/')+1:])]
	if u == nil || s.userARN(u) != arn {
		return nil
	}
	return u
}

func (s *state) providerByARN(arn string) *provider {
	name, ok := strings.CutPrefix(arn, s.arn("oidc-provider", "/", ""))
	if !ok {
		return nil
	}
	return s.Providers[name]
}

func (s *state) roleByID(id string) *role {
	for _, r := range s.Roles {
		if r.ID == id {
			return r
		}
	}
	return nil
}

func (s *state) userByID(id string) *user {
	for _, u := range s.Users {
		if u.ID == id {
			return u
		}
	}
	return nil
}

func (s *state) groupsOf(u *user) []*group {
	var in []*group
	for _, g := range s.Groups {
		if slices.Contains(g.Members, u.ID) {
			in = append(in, g)
		}
	}
	slices.SortFunc(in, func(a, b *group) int { return strings.Compare(a.Name, b.Name) })
	return in
}

// policyText returns the document in force of a managed policy, AWS's own included.
func (s *state) policyText(arn string) (string, bool) {
	if p := awsManaged(arn); p != nil {
		return p.document, true
	}
	p := s.Policies[arn]
	if p == nil {
		return "", false
	}
	return p.version(p.Default).Document, true
}

func (p *managedPolicy) version(n int) *policyVersion {
	i := slices.IndexFunc(p.Versions, func(v policyVersion) bool { return v.Number == n })
	if i < 0 {
		return nil
	}
	return &p.Versions[i]
}

// snapshot is a published state with the policies compiled from it so far.
type snapshot struct {
	*state
	compiled sync.Map // policyKey to *policy.Policy
}

type policyKey struct{ name, text string }

// compile returns the compiled form of a stored document. Documents were
// validated when they were stored, so an error means that the state is not
// what this code wrote, and the request must fail.
func (s *snapshot) compile(name, text string) (*policy.Policy, error) {
	key := policyKey{name, text}
	if p, ok := s.compiled.Load(key); ok {
		return p.(*policy.Policy), nil
	}
	d, err := policy.Parse([]byte(text))
	if err != nil {
		return nil, err
	}
	p, err := policy.Compile(name, d)
	if err != nil {
		return nil, err
	}
	s.compiled.Store(key, p)
	return p, nil
}

// policiesOf compiles what is attached to a role, user or group, inline
// policies first, each list in the order of names. label is "role NAME".
func (s *snapshot) policiesOf(e *entity, label string) ([]*policy.Policy, error) {
	var all []*policy.Policy
	for _, name := range sortedKeys(e.Inline) {
		p, err := s.compile(label+", inline policy "+name, e.Inline[name])
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	managed, err := s.managedPolicies(e.Attached)
	return append(all, managed...), err
}

// managedPolicies compiles managed policies. One that is gone allows nothing,
// so it is left out.
func (s *snapshot) managedPolicies(arns []string) ([]*policy.Policy, error) {
	all := []*policy.Policy{}
	for _, arn := range arns {
		text, ok := s.policyText(arn)
		if !ok {
			continue
		}
		p, err := s.compile(arn, text)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// boundaryOf compiles the permissions boundary: nil where none is set, and
// never nil where one is.
func (s *snapshot) boundaryOf(e *entity) ([]*policy.Policy, error) {
	if e.Boundary == "" {
		return nil, nil
	}
	return s.managedPolicies([]string{e.Boundary})
}
