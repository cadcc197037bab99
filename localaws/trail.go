package localaws

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// trailBatch is how many events are kept before a log file is written of itself.
const trailBatch = 1000

// hiddenInTrail stands where a value is a secret. It is CloudTrail's own word. The
// real CloudTrail has the session token in responseElements; here there is none that
// works, so that a log file can be handed on.
const hiddenInTrail = "HIDDEN_DUE_TO_SECURITY_REASONS"

// trail keeps the events that CloudTrail would and writes them in the files that it
// would deliver. A nil trail keeps nothing.
type trail struct {
	dir, account, region string
	now                  func() time.Time

	mu     sync.Mutex // guards events, and that one file is written at a time
	events []*trailEvent
}

// trailEvent is one record of a log file. Source: "CloudTrail record contents for
// management, data, and network activity events", AWS CloudTrail User Guide.
type trailEvent struct {
	EventVersion        string          `json:"eventVersion"`
	UserIdentity        trailIdentity   `json:"userIdentity"`
	EventTime           string          `json:"eventTime"`
	EventSource         string          `json:"eventSource"`
	EventName           string          `json:"eventName"`
	AWSRegion           string          `json:"awsRegion"`
	SourceIPAddress     string          `json:"sourceIPAddress"`
	UserAgent           string          `json:"userAgent"`
	ErrorCode           string          `json:"errorCode,omitempty"`
	ErrorMessage        string          `json:"errorMessage,omitempty"`
	RequestParameters   map[string]any  `json:"requestParameters"`
	ResponseElements    map[string]any  `json:"responseElements"`
	AdditionalEventData map[string]any  `json:"additionalEventData,omitempty"`
	RequestID           string          `json:"requestID"`
	EventID             string          `json:"eventID"`
	ReadOnly            bool            `json:"readOnly"`
	Resources           []trailResource `json:"resources,omitempty"`
	EventType           string          `json:"eventType"`
	ManagementEvent     bool            `json:"managementEvent"`
	RecipientAccountID  string          `json:"recipientAccountId"`
	EventCategory       string          `json:"eventCategory"`
}

type trailResource struct {
	AccountID string `json:"accountId,omitempty"`
	Type      string `json:"type"`
	ARN       string `json:"ARN,omitempty"`
	ARNPrefix string `json:"ARNPrefix,omitempty"` // of the objects that a list is of
}

// trailIdentity is the userIdentity element. Source: "CloudTrail userIdentity
// element", AWS CloudTrail User Guide.
type trailIdentity struct {
	Type             string        `json:"type"`
	PrincipalID      string        `json:"principalId"`
	ARN              string        `json:"arn,omitempty"`
	AccountID        string        `json:"accountId,omitempty"`
	AccessKeyID      string        `json:"accessKeyId,omitempty"`
	UserName         string        `json:"userName,omitempty"`
	IdentityProvider string        `json:"identityProvider,omitempty"`
	SessionContext   *trailSession `json:"sessionContext,omitempty"`
}

type trailSession struct {
	SessionIssuer       trailIdentity   `json:"sessionIssuer"`
	WebIDFederationData *trailWebID     `json:"webIdFederationData,omitempty"`
	Attributes          trailAttributes `json:"attributes"`
	SourceIdentity      string          `json:"sourceIdentity,omitempty"`
}

type trailWebID struct {
	FederatedProvider string            `json:"federatedProvider"`
	Attributes        map[string]string `json:"attributes"`
}

type trailAttributes struct {
	CreationDate     string `json:"creationDate"`
	MFAAuthenticated string `json:"mfaAuthenticated"`
}

// DeliverTrail writes the events that were kept since the last time as one log
// file. Without Config.CloudTrail, or without events, it does nothing. Events that
// could not be written are kept for the next time.
func (s *Server) DeliverTrail() error {
	if s.trail == nil {
		return nil
	}
	s.trail.mu.Lock()
	defer s.trail.mu.Unlock()
	return s.trail.deliver()
}

// trailed keeps an event. A log that cannot be written fails no request, as at AWS.
func (s *Server) trailed(e *trailEvent) {
	if s.trail == nil || e == nil {
		return
	}
	s.trail.mu.Lock()
	defer s.trail.mu.Unlock()
	s.trail.events = append(s.trail.events, e)
	if len(s.trail.events) < trailBatch {
		return
	}
	if err := s.trail.deliver(); err != nil {
		s.config.Log.Error("localaws: CloudTrail", "error", err)
	}
}

// deliver writes a file of what there is; mu is held.
func (t *trail) deliver() error {
	if len(t.events) == 0 {
		return nil
	}
	data, err := packTrail(t.events)
	if err == nil {
		err = t.write(t.now().UTC(), data)
	}
	if err != nil {
		return fmt.Errorf("writing a CloudTrail log file: %w", err)
	}
	t.events = nil
	return nil
}

func packTrail(events []*trailEvent) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	e := json.NewEncoder(z)
	e.SetEscapeHTML(false)
	err := e.Encode(struct{ Records []*trailEvent }{events})
	err = errors.Join(err, z.Close())
	return b.Bytes(), err
}

// write gives the finished file its name, whole or not at all. Source: "CloudTrail
// log file name format", AWS CloudTrail User Guide.
func (t *trail) write(at time.Time, data []byte) (err error) {
	dir := filepath.Join(t.dir, "AWSLogs", t.account, "CloudTrail", t.region, at.Format("2006/01/02"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	name := fmt.Sprintf("%s_CloudTrail_%s_%s_%s.json.gz", t.account, t.region, at.Format("20060102T1504Z"), rand.Text()[:16])
	work := filepath.Join(t.dir, ".writing-"+name)
	defer func() {
		if err != nil {
			_ = os.Remove(work)
		}
	}()
	if err := os.WriteFile(work, data, 0o600); err != nil {
		return err
	}
	return os.Rename(work, filepath.Join(dir, name))
}

// newTrailEvent fills in what all events have.
func (s *Server) newTrailEvent(source, name string, r *http.Request, now time.Time, requestID string) *trailEvent {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return &trailEvent{EventVersion: "1.11", EventTime: timestamp(now), EventSource: source, EventName: name,
		AWSRegion: s.config.Region, SourceIPAddress: host, UserAgent: clip(strings.ToValidUTF8(r.UserAgent(), "\ufffd")), RequestID: requestID,
		EventID: newRequestID(), EventType: "AwsApiCall", ManagementEvent: true, RecipientAccountID: s.config.Account, EventCategory: "Management"}
}

// trailCaller is the userIdentity of who signed a request.
func (s *Server) trailCaller(who *caller, accessKeyID string) trailIdentity {
	if who.user == nil && who.session == nil {
		return trailIdentity{Type: "AWSAccount", AccountID: "ANONYMOUS_PRINCIPAL"}
	}
	p, id := who.principal, trailIdentity{Type: "IAMUser", PrincipalID: who.userID, AccessKeyID: accessKeyID}
	id.ARN, id.AccountID = p.ARN, p.Account
	if who.user != nil {
		id.UserName = who.user.Name
		return id
	}
	id.Type = "AssumedRole"
	role := p.Issuer[strings.LastIndex(p.Issuer, "/")+1:]
	v := who.session
	id.SessionContext = &trailSession{
		SessionIssuer:  trailIdentity{Type: "Role", PrincipalID: p.ID, ARN: p.Issuer, AccountID: p.Account, UserName: role},
		Attributes:     trailAttributes{CreationDate: timestamp(timeOf(v.Issued)), MFAAuthenticated: "false"},
		SourceIdentity: v.SourceIdentity,
	}
	if v.Issuer != "" {
		id.SessionContext.WebIDFederationData = &trailWebID{FederatedProvider: oidcProviderARN(p.Account, v.Issuer), Attributes: map[string]string{}}
	}
	return id
}

func oidcProviderARN(account, issuer string) string {
	return "arn:aws:iam::" + account + ":oidc-provider/" + issuer
}
