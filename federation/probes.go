package federation

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
)

// spec is one request that a session is to make.
type spec struct {
	id, group string
	label     string // column text, without names
	what      string // "get an object of alice's"
	action    string
	resource  string // key or prefix within the bucket; "" is the bucket itself, or allBuckets
	want      Answer
	needs     []*Probe // controls: without them a refusal says nothing
	call      func(context.Context, *s3.Client) reply
	// owner and target name the other tenant's object that the request would
	// change. The owner reads it afterwards.
	owner  *actor
	target object
	about  string // as in Probe
}

// allBuckets is the resource of an action that has none.
const allBuckets = "*"

// probe makes the request and settles what it shows.
func (v *prover) probe(ctx context.Context, a *actor, s spec) *Probe {
	p := &Probe{
		ID: s.id, Group: s.group, Actor: a.Name, label: s.label, What: s.what, Action: s.action,
		Resource: v.Config.BucketARN(), Expected: s.want, about: s.about,
	}
	switch s.resource {
	case "":
	case allBuckets:
		p.Resource = allBuckets
	default:
		p.Resource += "/" + s.resource
	}
	if a.client == nil {
		v.settle(p, reply{
			answer: NotTried, code: "no session", message: a.Name + " got no session",
			advice: "See the first rows: a session comes before everything else.",
		})
		return p
	}
	for _, c := range s.needs {
		if c.Result != AsExpected && p.weak == "" {
			p.weak = "its control failed: " + c.Actor + ": " + c.What
		}
	}
	call := func(ctx context.Context) reply { return s.call(ctx, a.client) }
	if s.owner != nil {
		v.settle(p, v.change(ctx, p, s.owner, s.target, call))
		return p
	}
	v.settle(p, v.ask(ctx, call))
	return p
}

// change makes an attempt to change an object, which its owner reads before and
// after.
func (v *prover) change(ctx context.Context, p *Probe, owner *actor, o object, attempt func(context.Context) reply) reply {
	look := func() reply {
		if owner.client == nil {
			return reply{answer: NotTried, code: "no session"}
		}
		return v.ask(ctx, func(ctx context.Context) reply { return v.get(o)(ctx, owner.client) })
	}
	if before := look(); before.answer != Allowed {
		p.weak = "its owner could not read the object beforehand: " + before.text()
		return v.ask(ctx, attempt)
	}
	r := v.ask(ctx, attempt)
	if r.answer == NotTried {
		return r
	}
	switch after := look(); {
	case after.answer == Allowed:
		p.After = "unchanged"
		if r.answer == Allowed {
			return otherContent("the request was answered with success, and yet the object is as it was")
		}
	case after.code == codeOther:
		p.After = "changed"
	case after.code == "NoSuchKey":
		p.After = "gone"
	default:
		p.After = "unknown"
		p.weak = "its owner could not read the object afterwards: " + after.text()
	}
	return r
}

// settle records the answer and what it contributes to the verdict. A probe that
// came out against expectation stands by itself; one that came out as expected by
// a refusal needs its controls.
func (v *prover) settle(p *Probe, r reply) {
	p.Actual, p.Code, p.HTTPStatus, p.Message, p.RefusedBy = r.answer, r.code, r.status, r.message, r.refusal
	harmed := p.After == "changed" || p.After == "gone"
	switch {
	case harmed, r.answer == Allowed && p.Expected != Allowed, r.answer == Denied && p.Expected == Allowed:
		p.Result = Contrary
		if p.Group == "session" {
			p.Do = "(If the role was made or changed a moment ago, AWS may not know yet: wait and run the proof again.)"
			if v.report.Target.Kind == "other" {
				p.Do = "(The server does not say whether it refused the token or the role; its log may.)"
			}
		}
	case r.answer == Unclear, r.answer == NotTried:
		p.Result, p.Do = NotShown, r.advice
	case p.weak != "" && p.Expected != Allowed:
		p.Result, p.Do = NotShown, "Make the control pass, then run the proof again."
	default:
		p.Result = AsExpected
	}
	p.Sentence = p.sentence(r)
	v.report.Probes = append(v.report.Probes, p)
}

func (p *Probe) sentence(r reply) string {
	said := r.text()
	if p.RefusedBy != nil {
		said = p.RefusedBy.String()
	}
	switch {
	case p.Result == Contrary && (p.After == "changed" || p.After == "gone"):
		return fmt.Sprintf("%s was answered %q to: %s. The object is %s.", p.Actor, r.answer, p.What, p.After)
	case p.Result == Contrary && p.Actual == Allowed:
		return fmt.Sprintf("%s must not, but can: %s.", p.Actor, p.What)
	case p.Result == Contrary:
		return fmt.Sprintf("%s is kept out: %s (%s).", p.Actor, p.What, said)
	case p.Result == NotShown && p.weak != "" && r.answer != Unclear && r.answer != NotTried:
		return fmt.Sprintf("%s: %s: the refusal does not count, as %s.", p.Actor, p.What, p.weak)
	case p.Result == NotShown:
		return fmt.Sprintf("%s: %s: not observed (%s).", p.Actor, p.What, said)
	case p.Actual == Allowed:
		return fmt.Sprintf("%s can: %s.", p.Actor, p.What)
	case p.Actual == Held:
		return fmt.Sprintf("%s reaches nothing of the other's by: %s (%s).", p.Actor, p.What, said)
	}
	return fmt.Sprintf("%s is refused: %s (%s).", p.Actor, p.What, said)
}

// text is the answer for a person: code, status and what the server said.
func (r reply) text() string {
	s := r.code
	if r.status != 0 && r.code != "" {
		s += fmt.Sprintf(" %d", r.status)
	}
	if s == "" {
		s = string(r.answer)
	}
	if r.message != "" {
		s += ": " + r.message
	}
	return s
}

const codeOther = "other content"

func otherContent(message string) reply {
	return reply{
		answer: Unclear, code: codeOther, status: http.StatusOK, message: message,
		advice: "Something answered in place of S3, or somebody else wrote there; check the endpoint and run the proof again.",
	}
}

// done reads a success that has no content to compare. Every answer of S3's carries
// a request id; a page that something else serves with 200 does not.
func done(m middleware.Metadata) reply {
	if _, ok := awsmiddleware.GetRequestIDMetadata(m); !ok {
		return otherContent("want an answer of S3's, got one without a request id")
	}
	return read(nil)
}

// get reads an object and compares it.
func (v *prover) get(o object) func(context.Context, *s3.Client) reply {
	return func(ctx context.Context, client *s3.Client) reply {
		return v.getInput(ctx, client, &s3.GetObjectInput{Bucket: v.bucketTo(client), Key: &o.key}, o.content)
	}
}

func (v *prover) getInput(
	ctx context.Context, client *s3.Client, in *s3.GetObjectInput, want string, opts ...func(*s3.Options),
) reply {
	out, err := client.GetObject(ctx, in, opts...)
	if err != nil {
		return read(err)
	}
	defer out.Body.Close()
	got, err := io.ReadAll(io.LimitReader(out.Body, 1<<16))
	if err != nil {
		return read(err)
	}
	if !bytes.Equal(got, []byte(want)) {
		return otherContent(fmt.Sprintf("want the %d bytes that were laid there, got %d others", len(want), len(got)))
	}
	return read(nil)
}

// put writes an object.
func (v *prover) put(o object, by ...*actor) func(context.Context, *s3.Client) reply {
	return func(ctx context.Context, client *s3.Client) reply {
		out, err := client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &v.Config.Bucket, Key: &o.key, Body: strings.NewReader(o.content),
		})
		if err != nil {
			return v.maybeWritten(read(err), o.key, client, by...)
		}
		r := done(out.ResultMetadata)
		r.version = aws.ToString(out.VersionId)
		return v.maybeWritten(r, o.key, client, by...)
	}
}

// remember notes for the end what was written. The owner of a folder comes before whoever
// wrote into it.
func (v *prover) remember(w written, writer *s3.Client, owners ...*actor) {
	for _, o := range owners {
		w.by = append(w.by, o.client)
	}
	w.by = append(w.by, writer)
	v.wrote = append(v.wrote, w)
}

// maybeWritten remembers a key unless writing it was plainly refused: an attempt
// without an answer may have been carried out.
func (v *prover) maybeWritten(r reply, key string, writer *s3.Client, owners ...*actor) reply {
	if r.answer != Denied {
		v.remember(written{key: key}, writer, owners...)
	}
	return r
}

func (v *prover) removeOne(key string) func(context.Context, *s3.Client) reply {
	return func(ctx context.Context, client *s3.Client) reply {
		out, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &v.Config.Bucket, Key: &key})
		if err != nil {
			return read(err)
		}
		return done(out.ResultMetadata)
	}
}

// removeMany deletes by DeleteObjects, which answers 200 whatever it did and
// says for each key what became of it.
func (v *prover) removeMany(key string) func(context.Context, *s3.Client) reply {
	return func(ctx context.Context, client *s3.Client) reply {
		out, err := client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
			Bucket: &v.Config.Bucket, Delete: &s3types.Delete{Objects: []s3types.ObjectIdentifier{{Key: &key}}},
		})
		if err != nil {
			return read(err)
		}
		if len(out.Errors) == 0 {
			return done(out.ResultMetadata)
		}
		r := reply{
			answer: Unclear, code: aws.ToString(out.Errors[0].Code), message: oneLine(aws.ToString(out.Errors[0].Message)),
			status: http.StatusForbidden, // what the same refusal has as a call of its own
		}
		if r.code != "AccessDenied" {
			r.status = http.StatusOK
			r.advice = advice(r.code, r.status)
			return r
		}
		return refusal(r)
	}
}

func (v *prover) copy(from, to string, by ...*actor) func(context.Context, *s3.Client) reply {
	source := (&url.URL{Path: v.Config.Bucket + "/" + from}).EscapedPath()
	return func(ctx context.Context, client *s3.Client) reply {
		out, err := client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &v.Config.Bucket, Key: &to, CopySource: &source})
		if err != nil {
			return v.maybeWritten(read(err), to, client, by...)
		}
		return v.maybeWritten(done(out.ResultMetadata), to, client, by...)
	}
}

// listing is one ListObjectsV2. A nil prefix is not sent at all, which policies
// tell from an empty one.
type listing struct {
	prefix, delimiter *string
	maxKeys           *int32
}

func (v *prover) list(l listing) func(context.Context, *s3.Client) reply {
	return func(ctx context.Context, client *s3.Client) reply {
		_, r := v.listed(ctx, client, l)
		return r
	}
}

func (v *prover) listed(ctx context.Context, client *s3.Client, l listing) (*s3.ListObjectsV2Output, reply) {
	out, err := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
		Bucket: v.bucketTo(client), Prefix: l.prefix, Delimiter: l.delimiter, MaxKeys: l.maxKeys,
	})
	if err != nil {
		return nil, read(err)
	}
	if got := aws.ToString(out.Name); got != v.Config.Bucket {
		return nil, otherContent(fmt.Sprintf("want a listing of bucket %q, got one of %q", v.Config.Bucket, got))
	}
	return out, read(nil)
}

// holds reports whether a listing has the key.
func holds(out *s3.ListObjectsV2Output, key string) bool {
	for _, o := range out.Contents {
		if aws.ToString(o.Key) == key {
			return true
		}
	}
	return false
}

// orNotOffered takes an answer that the server does not have the call for a
// refusal: there is no way in by it.
func orNotOffered(call func(context.Context, *s3.Client) reply) func(context.Context, *s3.Client) reply {
	return func(ctx context.Context, client *s3.Client) reply {
		r := call(ctx, client)
		if r.answer == Unclear && (r.code == "NotImplemented" || r.code == "MethodNotAllowed") {
			r.answer, r.message, r.advice = Held, "the server does not offer the call", ""
		}
		return r
	}
}
