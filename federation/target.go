package federation

import (
	"net/url"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Target is where the requests go.
type Target struct {
	// Name is for the report. If it is empty, the report calls the target by its
	// kind.
	Name  string
	Local bool // a local AWS, which proves nothing about AWS; a loopback endpoint is one anyway
	// Other marks a server that is neither AWS nor a local AWS, such as Ceph's RADOS
	// gateway, wherever it runs. It proves nothing about AWS either.
	Other bool
	// STS and S3 are endpoint URLs. Empty means AWS's own endpoint of the
	// configuration's region.
	STS, S3 string
	// PublicBucket is what a caller without a signature has to call the bucket, where
	// that is not its name: to Ceph's RADOS gateway, the bucket of a tenant is
	// "tenant:bucket" to everybody outside. Empty means the bucket's name.
	PublicBucket string
	// HTTPClient makes the requests; if nil, one that follows no redirect.
	HTTPClient aws.HTTPClient
}

const maxTargetName = 100

// The kinds of target.
const (
	kindAWS   = "aws"
	kindLocal = "local"
	kindOther = "other"
)

const otherNote = "not AWS: only a run against AWS proves AWS"

// targetReport says which kind of target the endpoints are. The name does not
// count: whoever calls a server on this machine "AWS" has proven nothing about AWS.
func targetReport(t Target) TargetReport {
	r := TargetReport{Name: t.Name, Kind: kindOther, STS: shownURL(t.STS), S3: shownURL(t.S3)}
	standard := "a server that is not AWS"
	switch {
	case t.Other:
		r.Note = otherNote
	case t.Local || onLoopback(t.STS) || onLoopback(t.S3):
		r.Kind, standard = kindLocal, "local AWS"
		r.Note = "local: only a run against AWS proves AWS"
	case isAWS(t.STS) && isAWS(t.S3):
		r.Kind, standard = kindAWS, "AWS"
	default:
		r.Note = otherNote
	}
	if r.Name == "" {
		r.Name = standard
	}
	return r
}

// shownURL is an endpoint as a report has it: without a password, where somebody
// put one in.
func shownURL(e string) string {
	if e == "" {
		return "AWS's own endpoint"
	}
	u, err := url.Parse(e)
	if err != nil {
		return oneLine(e)
	}
	return u.Redacted()
}

func onLoopback(e string) bool {
	u, err := url.Parse(e)
	return err == nil && Loopback(u.Hostname())
}

// awsHost is the host of an STS or S3 endpoint of AWS's own, a VPC's included
// (general/latest/gr/sts, general/latest/gr/s3). The domain alone does not tell:
// a customer's machine has a name such as ec2-192-0-2-1.compute-1.amazonaws.com, and
// a customer's bucket one such as sts.s3.amazonaws.com.
var awsHost = regexp.MustCompile(`^(?:` +
	`(?:sts|s3)(?:-fips)?(?:\.dualstack)?(?:\.` + awsRegion + `)?\.amazonaws\.com(?:\.cn)?` +
	`|sts(?:-fips)?\.` + awsRegion + `\.api\.(?:aws|amazonwebservices\.com\.cn)` +
	`|(?:bucket\.)?vpce-[a-z0-9-]+\.(?:sts|s3)\.` + awsRegion + `\.vpce\.amazonaws\.com(?:\.cn)?` +
	`)$`)

const awsRegion = `[a-z]{2,5}(?:-[a-z]+)+-[0-9]{1,2}`

// isAWS reports whether an endpoint is AWS's own. Plain http is not: whoever is on
// the path could have answered.
func isAWS(e string) bool {
	u, err := url.Parse(e)
	return e == "" || err == nil && u.Scheme == "https" && awsHost.MatchString(u.Hostname())
}

func endpoint(u string) *string {
	if u == "" {
		return nil
	}
	return &u
}
