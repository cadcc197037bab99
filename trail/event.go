package trail

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// An Event is what is needed of one record of CloudTrail.
// Sources: "CloudTrail record contents for management, data, and network activity
// events" and "CloudTrail userIdentity element" in the AWS CloudTrail User Guide,
// "Logging IAM and AWS STS API calls with AWS CloudTrail" in the IAM User Guide.
type Event struct {
	ID, Source, Name string
	RequestID        string    // that the service gave the call, and told its caller; "" where it is not kept
	Time             time.Time // to the second
	File             string
	ErrorCode        string // "" where the call succeeded
	Data             bool   // a data event
	Caller           Caller
	Assumed          *Assumption // of a call of STS that assumes a role
}

// A Caller is who made a call.
type Caller struct {
	Type, ARN, UserName string
	AccessKeyID         string
	IdentityProvider    string    // of a web identity
	Role                string    // ARN of the role that a session is of
	Created             time.Time // of the session; zero where the record does not say
}

// An Assumption is what was asked of a role, and given.
type Assumption struct {
	Role, SessionName string
	SourceIdentity    string
	Tags              map[string]string
	AccessKeyID       string // "" where it was refused
	Subject, Provider string // of a web identity
}

// webIdentity is the name of the event by which the broker's tokens are exchanged.
const webIdentity = "AssumeRoleWithWebIdentity"

// maxEvent bounds one record. CloudTrail's own bound is 256 kB, or 1 MB where events
// are enriched ("Enrich CloudTrail events", AWS CloudTrail User Guide).
const maxEvent = 4 << 20

// rawEvent is a record with the members that are read, of all those there are.
type rawEvent struct {
	EventVersion, EventID, EventTime string
	EventSource, EventName           string
	RequestID                        string
	ErrorCode, EventCategory         string
	UserIdentity                     *rawIdentity
	RequestParameters                json.RawMessage
	ResponseElements                 json.RawMessage
}

type rawIdentity struct {
	Type, ARN, UserName, AccessKeyID, IdentityProvider string
	SessionContext                                     struct {
		SessionIssuer struct{ ARN string }
		Attributes    struct{ CreationDate string }
	}
}

type rawRequest struct {
	RoleARN, RoleSessionName, SourceIdentity string
	PrincipalTags                            json.RawMessage
}

type rawResponse struct {
	Credentials                           struct{ AccessKeyID string }
	SubjectFromWebIdentityToken, Provider string
	SourceIdentity                        string
}

// ParseEvent reads one record. Members that it does not know are left alone, as
// CloudTrail adds some with each minor version; another major version is refused,
// and so is a record without the members that make it one.
func ParseEvent(data []byte) (Event, error) {
	e, err := parseEvent(data)
	if err != nil {
		return Event{}, fmt.Errorf("CloudTrail event: %w", err)
	}
	return e, nil
}

func parseEvent(data []byte) (Event, error) {
	var raw rawEvent
	if len(data) > maxEvent {
		return Event{}, fmt.Errorf("want at most %d bytes, got %d", maxEvent, len(data))
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return Event{}, err
	}
	if err := raw.check(); err != nil {
		return Event{}, err
	}
	e := Event{ID: raw.EventID, Source: raw.EventSource, Name: raw.EventName, RequestID: raw.RequestID, ErrorCode: raw.ErrorCode, Data: raw.EventCategory == "Data"}
	var err error
	if e.Time, err = time.Parse(time.RFC3339, raw.EventTime); err != nil {
		return Event{}, fmt.Errorf("eventTime: want a time like 2024-07-09T15:41:37Z, got %.40q", raw.EventTime)
	}
	e.Time = e.Time.UTC()
	if e.Caller, err = raw.UserIdentity.caller(); err != nil {
		return Event{}, err
	}
	if e.assumes() {
		if e.Assumed, err = raw.assumption(); err != nil {
			return Event{}, fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	return e, nil
}

func (raw *rawEvent) check() error {
	if major, _, _ := strings.Cut(raw.EventVersion, "."); major != "1" {
		return fmt.Errorf("eventVersion: want 1 and a minor version, got %.20q", raw.EventVersion)
	}
	for _, m := range []struct{ name, value string }{{"eventID", raw.EventID}, {"eventSource", raw.EventSource}, {"eventName", raw.EventName}} {
		if m.value == "" {
			return fmt.Errorf("%s is missing", m.name)
		}
	}
	if raw.UserIdentity == nil {
		return errors.New("userIdentity is missing")
	}
	return nil
}

func (r *rawIdentity) caller() (Caller, error) {
	c := Caller{Type: r.Type, ARN: r.ARN, UserName: r.UserName, AccessKeyID: r.AccessKeyID, IdentityProvider: r.IdentityProvider}
	if r.Type != "AssumedRole" {
		return c, nil
	}
	c.Role = r.SessionContext.SessionIssuer.ARN
	if created := r.SessionContext.Attributes.CreationDate; created != "" {
		t, err := time.Parse(time.RFC3339, created)
		if err != nil {
			return c, fmt.Errorf("creationDate: want a time like 2024-07-09T15:41:37Z, got %.40q", created)
		}
		c.Created = t.UTC()
	}
	return c, nil
}

// assumes says whether the call is one of those that assume a role.
func (e *Event) assumes() bool {
	return e.Source == "sts.amazonaws.com" && strings.HasPrefix(e.Name, "AssumeRole") && e.Name != "AssumeRoot"
}

func (raw *rawEvent) assumption() (*Assumption, error) {
	var asked rawRequest
	var given rawResponse
	if err := unmarshal("requestParameters", raw.RequestParameters, &asked); err != nil {
		return nil, err
	}
	if err := unmarshal("responseElements", raw.ResponseElements, &given); err != nil {
		return nil, err
	}
	a := &Assumption{Role: asked.RoleARN, SessionName: asked.RoleSessionName, SourceIdentity: asked.SourceIdentity,
		AccessKeyID: given.Credentials.AccessKeyID, Subject: given.SubjectFromWebIdentityToken, Provider: given.Provider}
	if raw.EventName == webIdentity {
		if err := unmarshal("requestParameters.principalTags", asked.PrincipalTags, &a.Tags); err != nil {
			return nil, err
		}
	}
	if a.Subject == "" {
		a.Subject = raw.UserIdentity.UserName // where it was refused, there is no response
	}
	if a.Provider == "" {
		a.Provider = raw.UserIdentity.IdentityProvider
	}
	if a.SourceIdentity == "" {
		a.SourceIdentity = given.SourceIdentity
	}
	return a, nil
}

// unmarshal reads an object, or null, or nothing.
func unmarshal(name string, data json.RawMessage, v any) error {
	if len(data) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
