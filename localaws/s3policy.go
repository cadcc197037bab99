package localaws

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"net/http"
	"slices"

	"agentkeys/policy"
)

// publicAccessBlock is a bucket's Block Public Access configuration. A bucket
// starts with all four on.
type publicAccessBlock struct {
	XMLName               xml.Name `xml:"PublicAccessBlockConfiguration" json:"-"`
	Namespace             string   `xml:"xmlns,attr,omitempty" json:"-"`
	BlockPublicAcls       bool
	IgnorePublicAcls      bool
	BlockPublicPolicy     bool
	RestrictPublicBuckets bool
}

func blockEverything() *publicAccessBlock {
	return &publicAccessBlock{BlockPublicAcls: true, IgnorePublicAcls: true, BlockPublicPolicy: true, RestrictPublicBuckets: true}
}

// update replaces the settings of the call's bucket by a changed copy.
func (c *s3Call) update(change func(*settings)) *apiError {
	return c.change(func() error {
		next := *c.bkt.settings
		change(&next)
		return c.bkt.set(&next)
	})
}

// compile makes the policy decide. It runs on settings that nobody else has yet.
func (s *settings) compile() error {
	s.compiled, s.public = nil, false
	if len(s.Policy) == 0 {
		return nil
	}
	doc, err := policy.Parse(s.Policy)
	if err != nil {
		return err
	}
	s.public = doc.Public()
	s.compiled, err = policy.Compile("bucket policy of "+s.Name, doc)
	return err
}

// putPolicy validates as S3 does, refuses a public policy where Block Public
// Access says so, and stores the document with its principals bound to the
// unique ids that they have now.
func (c *s3Call) putPolicy() *apiError {
	if e := c.mayBucket("s3:PutBucketPolicy", nil); e != nil {
		return e
	}
	data, e := c.readBody(maxXMLBody)
	if e != nil {
		return e
	}
	doc, err := policy.ParseBucketPolicy(data, policy.BucketRules{Bucket: c.name, Account: c.b.server.config.Account,
		CanonicalUser: c.b.owner().ID, PrincipalExists: c.b.principalExists})
	if err != nil {
		return c.malformedPolicy(err)
	}
	if c.set.Block != nil && c.set.Block.BlockPublicPolicy && doc.Public() {
		return c.publicPolicyDenied()
	}
	bound, e := c.bindPrincipals(doc)
	if e != nil {
		return e
	}
	if e := c.update(func(s *settings) { s.Policy = bound }); e != nil {
		return e
	}
	return c.writeStatus(http.StatusNoContent)
}

func (c *s3Call) malformedPolicy(err error) *apiError {
	var malformed *policy.MalformedError
	if !errors.As(err, &malformed) {
		return c.fault(err)
	}
	return refuse(http.StatusBadRequest, "MalformedPolicy", "%s", malformed.Message)
}

// publicPolicyDenied is worded as S3 words the refusal by BlockPublicPolicy.
func (c *s3Call) publicPolicyDenied() *apiError {
	if c.who.principal.Account != c.b.server.config.Account {
		return plainDenied()
	}
	return refuse(http.StatusForbidden, "AccessDenied",
		"User: %s is not authorized to perform: s3:PutBucketPolicy on resource: \"arn:aws:s3:::%s\" because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access.",
		c.who.principal.ARN, c.name)
}

// principalExists knows the principals of this account, and other accounts as
// a whole.
func (b *s3) principalExists(arn string) bool {
	_, ok := b.server.principalID(arn)
	return ok
}

// bindPrincipals gives the document as it is stored. An account is stored as
// S3 shows it, by the ARN of its root, whether it was named by its number or by
// its canonical id, which validation let pass for this account alone.
func (c *s3Call) bindPrincipals(doc *policy.Document) (json.RawMessage, *apiError) {
	bound := mapPrincipals(rootOfCanonical(doc, c.b.server.config.Account), func(arn string) string {
		if isAccountID(arn) {
			return rootARNOf(arn)
		}
		if id, ok := c.b.server.principalID(arn); ok {
			return id
		}
		return arn
	})
	data, err := bound.MarshalJSON()
	if err != nil {
		return nil, c.fault(err)
	}
	return data, nil
}

func rootARNOf(account string) string { return "arn:aws:iam::" + account + ":root" }

// rootOfCanonical copies a document with the account's root in place of its
// canonical id: requests carry no canonical id that a statement could match.
func rootOfCanonical(doc *policy.Document, account string) *policy.Document {
	return eachPrincipals(doc, func(p *policy.Principals) {
		if len(p.CanonicalUser) == 0 {
			return
		}
		p.CanonicalUser = nil
		if root := rootARNOf(account); !slices.Contains(p.AWS, root) {
			p.AWS = append(p.AWS, root)
		}
	})
}

// mapPrincipals copies a document with every AWS principal replaced.
func mapPrincipals(doc *policy.Document, replace func(string) string) *policy.Document {
	return eachPrincipals(doc, func(p *policy.Principals) {
		for i, arn := range p.AWS {
			p.AWS[i] = replace(arn)
		}
	})
}

// eachPrincipals copies a document and changes each Principal and NotPrincipal
// of the copy.
func eachPrincipals(doc *policy.Document, change func(*policy.Principals)) *policy.Document {
	next := *doc
	next.Statements = slices.Clone(doc.Statements)
	for i := range next.Statements {
		st := &next.Statements[i]
		for _, p := range []**policy.Principals{&st.Principal, &st.NotPrincipal} {
			if *p == nil {
				continue
			}
			replaced := **p
			replaced.AWS = slices.Clone(replaced.AWS)
			change(&replaced)
			*p = &replaced
		}
	}
	return &next
}

func noSuchBucketPolicy() *apiError {
	return refuse(http.StatusNotFound, "NoSuchBucketPolicy", "The bucket policy does not exist")
}

// getPolicy shows principals by ARN, or by the unique id of one that is gone.
func (c *s3Call) getPolicy() *apiError {
	if e := c.mayBucket("s3:GetBucketPolicy", nil); e != nil {
		return e
	}
	if len(c.set.Policy) == 0 {
		return noSuchBucketPolicy()
	}
	doc, err := policy.Parse(c.set.Policy)
	if err != nil {
		return c.fault(err)
	}
	shown := mapPrincipals(doc, func(id string) string {
		if arn, ok := c.b.server.principalARN(id); ok {
			return arn
		}
		return id
	})
	data, err := shown.MarshalJSON()
	if err != nil {
		return c.fault(err)
	}
	c.w.Header().Set("Content-Type", "application/json")
	_, _ = c.w.Write(data) // as in writeError
	return nil
}

func (c *s3Call) deletePolicy() *apiError {
	if e := c.mayBucket("s3:DeleteBucketPolicy", nil); e != nil {
		return e
	}
	if e := c.update(func(s *settings) { s.Policy = nil }); e != nil {
		return e
	}
	return c.writeStatus(http.StatusNoContent)
}

func (c *s3Call) getPolicyStatus() *apiError {
	if e := c.mayBucket("s3:GetBucketPolicyStatus", nil); e != nil {
		return e
	}
	if len(c.set.Policy) == 0 {
		return noSuchBucketPolicy()
	}
	return c.writeXML(struct {
		XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ PolicyStatus"`
		IsPublic bool
	}{IsPublic: c.set.public})
}

func (c *s3Call) getPublicAccessBlock() *apiError {
	if e := c.mayBucket("s3:GetBucketPublicAccessBlock", nil); e != nil {
		return e
	}
	if c.set.Block == nil {
		return refuse(http.StatusNotFound, "NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found")
	}
	shown := *c.set.Block
	shown.Namespace = s3Namespace
	return c.writeXML(shown)
}

func (c *s3Call) putPublicAccessBlock() *apiError {
	if e := c.mayBucket("s3:PutBucketPublicAccessBlock", nil); e != nil {
		return e
	}
	var body publicAccessBlock
	if e := c.readXML(maxXMLBody, &body); e != nil {
		return e
	}
	next := &publicAccessBlock{BlockPublicAcls: body.BlockPublicAcls, IgnorePublicAcls: body.IgnorePublicAcls,
		BlockPublicPolicy: body.BlockPublicPolicy, RestrictPublicBuckets: body.RestrictPublicBuckets}
	if e := c.update(func(s *settings) { s.Block = next }); e != nil {
		return e
	}
	return c.writeStatus(http.StatusOK)
}

func (c *s3Call) deletePublicAccessBlock() *apiError {
	if e := c.mayBucket("s3:PutBucketPublicAccessBlock", nil); e != nil {
		return e
	}
	if e := c.update(func(s *settings) { s.Block = nil }); e != nil {
		return e
	}
	return c.writeStatus(http.StatusNoContent)
}

// ownerEnforced turns ACLs off, which is how every bucket starts.
const ownerEnforced = "BucketOwnerEnforced"

func validOwnership(o string) bool {
	return o == ownerEnforced || o == "BucketOwnerPreferred" || o == "ObjectWriter"
}

type ownershipControls struct {
	XMLName   xml.Name `xml:"OwnershipControls"`
	Namespace string   `xml:"xmlns,attr,omitempty"`
	Rules     []struct {
		ObjectOwnership string
	} `xml:"Rule"`
}

func (c *s3Call) getOwnership() *apiError {
	if e := c.mayBucket("s3:GetBucketOwnershipControls", nil); e != nil {
		return e
	}
	if c.set.Ownership == "" {
		return refuse(http.StatusNotFound, "OwnershipControlsNotFoundError", "The bucket ownership controls were not found")
	}
	shown := ownershipControls{Namespace: s3Namespace, Rules: []struct{ ObjectOwnership string }{{c.set.Ownership}}}
	return c.writeXML(shown)
}

func (c *s3Call) putOwnership() *apiError {
	if e := c.mayBucket("s3:PutBucketOwnershipControls", nil); e != nil {
		return e
	}
	var body ownershipControls
	if e := c.readXML(maxXMLBody, &body); e != nil {
		return e
	}
	if len(body.Rules) != 1 || !validOwnership(body.Rules[0].ObjectOwnership) {
		return malformedXML()
	}
	if e := c.update(func(s *settings) { s.Ownership = body.Rules[0].ObjectOwnership }); e != nil {
		return e
	}
	return c.writeStatus(http.StatusOK)
}

func (c *s3Call) deleteOwnership() *apiError {
	if e := c.mayBucket("s3:PutBucketOwnershipControls", nil); e != nil {
		return e
	}
	if e := c.update(func(s *settings) { s.Ownership = "" }); e != nil {
		return e
	}
	return c.writeStatus(http.StatusNoContent)
}
