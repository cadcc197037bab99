package federation

import (
	"context"
	"net/url"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// The rarer calls. Each has an action of its own, so that a policy which looks
// complete for GetObject and PutObject may yet let it through.

// attempt is one such call, all of which must be refused.
type attempt struct {
	id, label, what, action string
	resource                string // as in spec
	call                    func(context.Context, *s3.Client) reply
}

func (v *prover) attempts(ctx context.Context, a *actor, needs []*Probe, all []attempt) {
	for _, t := range all {
		v.probe(ctx, a, spec{
			id: "near." + t.id, group: "near", label: t.label, what: t.what, action: t.action, resource: t.resource,
			want: Denied, needs: needs, call: orNotOffered(orAuthorised(t.call)),
		})
	}
}

// afterAuthorising are the errors that say what is there, or is not. S3 says that
// to a caller only who may make the call.
var afterAuthorising = []string{"NoSuchUpload", "NoSuchBucketPolicy"}

// orAuthorised takes such an answer for what it is: the action was allowed.
func orAuthorised(call func(context.Context, *s3.Client) reply) func(context.Context, *s3.Client) reply {
	return func(ctx context.Context, client *s3.Client) reply {
		r := call(ctx, client)
		if r.answer == Unclear && slices.Contains(afterAuthorising, r.code) {
			r.answer, r.advice = Allowed, ""
		}
		return r
	}
}

// request makes any call of the SDK whose answer has no content to compare.
func request[I, O any](
	op func(*s3.Client, context.Context, *I, ...func(*s3.Options)) (*O, error), in *I,
) func(context.Context, *s3.Client) reply {
	return func(ctx context.Context, client *s3.Client) reply {
		var m middleware.Metadata
		if _, err := op(client, ctx, in, metadataInto(&m)); err != nil {
			return read(err)
		}
		return done(m)
	}
}

// metadataInto has the metadata of an answer put where it can be had whatever the
// answer's type.
func metadataInto(m *middleware.Metadata) func(*s3.Options) {
	keep := func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
		out middleware.InitializeOutput, metadata middleware.Metadata, err error,
	) {
		out, metadata, err = next.HandleInitialize(ctx, in)
		*m = metadata
		return out, metadata, err
	}
	return s3.WithAPIOptions(func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("proof: keep metadata", keep), middleware.Before)
	})
}

// rareListings show names by calls that a policy for ListBucket does not cover.
func (v *prover) rareListings(ctx context.Context, a, o *actor) {
	bucket, foreign := &v.Config.Bucket, v.Config.TenantPrefix(o.Tag)
	v.attempts(ctx, a, []*Probe{a.own["list"]}, []attempt{
		{"list_versions", "list versions", "list the versions under " + o.Name + "'s prefix", "s3:ListBucketVersions", foreign,
			request((*s3.Client).ListObjectVersions, &s3.ListObjectVersionsInput{Bucket: bucket, Prefix: &foreign})},
		{"list_uploads", "list uploads", "list the bucket's unfinished uploads", "s3:ListBucketMultipartUploads", "",
			request((*s3.Client).ListMultipartUploads, &s3.ListMultipartUploadsInput{Bucket: bucket})},
	})
}

// settings are the bucket's. They are read only: an attempt to set them could
// succeed.
func (v *prover) settings(ctx context.Context, a *actor) {
	bucket := &v.Config.Bucket
	v.attempts(ctx, a, []*Probe{a.own["list"]}, []attempt{
		{"bucket_policy", "bucket policy", "read the bucket policy", "s3:GetBucketPolicy", "",
			request((*s3.Client).GetBucketPolicy, &s3.GetBucketPolicyInput{Bucket: bucket})},
		{"bucket_acl", "bucket ACL", "read the bucket's ACL", "s3:GetBucketAcl", "",
			request((*s3.Client).GetBucketAcl, &s3.GetBucketAclInput{Bucket: bucket})},
		{"list_buckets", "list buckets", "list the account's buckets", "s3:ListAllMyBuckets", allBuckets,
			request((*s3.Client).ListBuckets, &s3.ListBucketsInput{})},
	})
}

// rareReads tell of an object of o's by calls that a policy for GetObject does not
// cover.
func (v *prover) rareReads(ctx context.Context, a, o *actor) {
	theirs := o.objects["read"]
	bucket, key, of := &v.Config.Bucket, &theirs.key, " of an object of "+o.Name+"'s"
	uploadKey, upload := v.upload(o)
	v.attempts(ctx, a, []*Probe{a.own["get"], o.own["get"]}, []attempt{
		{"get_version", "get version", "get a version" + of, "s3:GetObjectVersion", theirs.key,
			func(ctx context.Context, client *s3.Client) reply {
				in := &s3.GetObjectInput{Bucket: bucket, Key: key, VersionId: theirs.versionID()}
				return v.getInput(ctx, client, in, theirs.content)
			}},
		{"get_presigned", "get by link", "get an object of " + o.Name + "'s by a presigned URL", "s3:GetObject", theirs.key,
			v.getPresigned(theirs)},
		{"get_tags", "get tags", "get the tags" + of, "s3:GetObjectTagging", theirs.key,
			request((*s3.Client).GetObjectTagging, &s3.GetObjectTaggingInput{Bucket: bucket, Key: key})},
		{"get_version_tags", "version's tags", "get the tags of a version" + of, "s3:GetObjectVersionTagging", theirs.key,
			request((*s3.Client).GetObjectTagging, &s3.GetObjectTaggingInput{Bucket: bucket, Key: key, VersionId: theirs.versionID()})},
		{"get_acl", "get ACL", "get the ACL" + of, "s3:GetObjectAcl", theirs.key,
			request((*s3.Client).GetObjectAcl, &s3.GetObjectAclInput{Bucket: bucket, Key: key})},
		{"get_attributes", "attributes", "get the attributes" + of, "s3:GetObjectAttributes", theirs.key,
			request((*s3.Client).GetObjectAttributes, &s3.GetObjectAttributesInput{
				Bucket: bucket, Key: key, ObjectAttributes: []s3types.ObjectAttributes{s3types.ObjectAttributesObjectSize},
			})},
		{"list_parts", "list parts", "list the parts of an upload of " + o.Name + "'s", "s3:ListMultipartUploadParts", uploadKey,
			request((*s3.Client).ListParts, &s3.ListPartsInput{Bucket: bucket, Key: &uploadKey, UploadId: &upload})},
	})
}

// rareWrites change an object of o's, or what belongs to it, by calls that a policy
// for PutObject and DeleteObject does not cover.
func (v *prover) rareWrites(ctx context.Context, a, o *actor) {
	theirs := o.objects["read"]
	bucket, key, of := &v.Config.Bucket, &theirs.key, " of an object of "+o.Name+"'s"
	tags := &s3types.Tagging{TagSet: []s3types.Tag{{Key: aws.String("agentkeys-proof"), Value: aws.String(a.Name)}}}
	uploadKey, upload := v.upload(o)
	begun := v.Config.TenantPrefix(o.Tag) + v.name + "/upload"
	v.attempts(ctx, a, []*Probe{a.own["put"], o.own["get"]}, []attempt{
		{"put_tags", "put tags", "set the tags" + of, "s3:PutObjectTagging", theirs.key,
			request((*s3.Client).PutObjectTagging, &s3.PutObjectTaggingInput{Bucket: bucket, Key: key, Tagging: tags})},
		{"delete_tags", "delete tags", "delete the tags" + of, "s3:DeleteObjectTagging", theirs.key,
			request((*s3.Client).DeleteObjectTagging, &s3.DeleteObjectTaggingInput{Bucket: bucket, Key: key})},
		{"put_acl", "put ACL", "set the ACL" + of, "s3:PutObjectAcl", theirs.key, v.putACL(theirs.key)},
		{"abort_upload", "abort upload", "abort an upload of " + o.Name + "'s", "s3:AbortMultipartUpload", uploadKey,
			request((*s3.Client).AbortMultipartUpload, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: &uploadKey, UploadId: &upload})},
		{"create_upload", "begin upload", "begin an upload under " + o.Name + "'s prefix", "s3:PutObject", begun,
			func(ctx context.Context, client *s3.Client) reply {
				_, r := v.beginUpload(ctx, client, begun, o)
				return r
			}},
	})
}

// putACL sets the one ACL that a bucket takes whose ACLs are disabled ("Controlling
// ownership of objects"): with any other S3 would answer for the bucket and not for
// the caller. Where it takes not even that, the call can do no harm.
func (v *prover) putACL(key string) func(context.Context, *s3.Client) reply {
	put := request((*s3.Client).PutObjectAcl, &s3.PutObjectAclInput{
		Bucket: &v.Config.Bucket, Key: &key, ACL: s3types.ObjectCannedACLBucketOwnerFullControl,
	})
	return func(ctx context.Context, client *s3.Client) reply {
		r := put(ctx, client)
		if r.code == "AccessControlListNotSupported" {
			r.answer, r.message, r.advice = Held, "the bucket takes no ACLs", ""
		}
		return r
	}
}

// upload is an unfinished upload of the owner's. Without one that was really begun
// it is a name that S3 does not know; to say so S3 must have let the caller pass.
func (v *prover) upload(owner *actor) (key, id string) {
	id = owner.uploadID
	if id == "" {
		id = v.name
	}
	return v.uploadKey(owner), id
}

func (v *prover) uploadKey(owner *actor) string {
	return v.Config.TenantPrefix(owner.Tag) + v.name + "/parts"
}

// beginUpload begins an upload, which is aborted at the end.
func (v *prover) beginUpload(ctx context.Context, client *s3.Client, key string, owner *actor) (id string, r reply) {
	out, err := client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &v.Config.Bucket, Key: &key})
	if err != nil {
		return "", read(err)
	}
	if id = aws.ToString(out.UploadId); id != "" {
		v.remember(written{key: key, upload: id}, client, owner)
	}
	return id, done(out.ResultMetadata)
}

// getPresigned reads an object by a link that the session signs: a grant may be
// meant for one way to authenticate alone (s3:authType).
func (v *prover) getPresigned(o object) func(context.Context, *s3.Client) reply {
	return func(ctx context.Context, client *s3.Client) reply {
		in := &s3.GetObjectInput{Bucket: &v.Config.Bucket, Key: &o.key}
		link, err := s3.NewPresignClient(client).PresignGetObject(ctx, in, s3.WithPresignExpires(time.Minute))
		if err != nil {
			return read(err)
		}
		to, err := url.Parse(link.URL)
		if err != nil {
			return read(err)
		}
		send := func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
			middleware.FinalizeOutput, middleware.Metadata, error,
		) {
			if r, ok := in.Request.(*smithyhttp.Request); ok {
				r.URL, r.Header = to, link.SignedHeader.Clone()
			}
			return next.HandleFinalize(ctx, in)
		}
		return v.getInput(ctx, v.anybody, in, o.content, s3.WithAPIOptions(func(stack *middleware.Stack) error {
			return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("proof: follow the link", send), middleware.After)
		}))
	}
}

// unsigned has somebody without a session try what each tenant has. S3 refuses
// with a bare "Access Denied", as it names no policy to a stranger.
func (v *prover) unsigned(ctx context.Context) {
	nobody := &actor{Tenant: Tenant{Name: anonymous}, client: v.anybody}
	for _, o := range v.actors {
		home, theirs := v.Config.TenantPrefix(o.Tag), o.objects["read"]
		for _, s := range []spec{
			{id: "get", label: "get", what: "get an object of " + o.Name + "'s without a signature", action: "s3:GetObject",
				resource: theirs.key, needs: []*Probe{o.own["get"]}, call: v.get(theirs)},
			{id: "list", label: "list", what: "list " + o.Name + "'s prefix without a signature", action: "s3:ListBucket",
				resource: home, needs: []*Probe{o.own["list"]}, call: v.list(listing{prefix: &home})},
		} {
			s.id, s.group, s.want, s.about = "anonymous."+s.id+"."+o.Name, "anonymous", Denied, o.Name
			v.probe(ctx, nobody, s)
		}
	}
}
