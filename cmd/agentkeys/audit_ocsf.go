package main

import (
	"encoding/json"
	"net/netip"
	"strings"

	"agentkeys/audit"
)

// ocsfVersion is that of the schema whose events are written (schema.ocsf.io).
const ocsfVersion = "1.9.0"

// The classes of OCSF that records become, and the activities within them.
const (
	ocsfAuthentication = 3002
	ocsfLogon          = 1
	ocsfLogoff         = 2
	ocsfPreauth        = 6

	ocsfAPIActivity = 6003
	ocsfCreate      = 1
	ocsfRead        = 2
	ocsfUpdate      = 3
	ocsfDelete      = 4

	ocsfOther = 99 // of activities, statuses, protocols and types, with a text beside it
)

// Severities of OCSF.
const (
	ocsfInformational = 1
	ocsfLow           = 2
	ocsfMedium        = 3
)

type ocsfEvent struct {
	ActivityID   int            `json:"activity_id"`
	ActivityName string         `json:"activity_name,omitempty"`
	CategoryUID  int            `json:"category_uid"`
	ClassUID     int            `json:"class_uid"`
	TypeUID      int            `json:"type_uid"`
	SeverityID   int            `json:"severity_id"`
	Time         int64          `json:"time"` // Unix milliseconds
	StatusID     int            `json:"status_id"`
	Status       string         `json:"status"`
	StatusCode   string         `json:"status_code,omitempty"`
	StatusDetail string         `json:"status_detail,omitempty"`
	Metadata     ocsfMetadata   `json:"metadata"`
	Actor        ocsfActor      `json:"actor"`
	User         *ocsfUser      `json:"user,omitempty"`    // of authentications
	Service      *ocsfNamed     `json:"service,omitempty"` // of authentications
	API          *ocsfAPI       `json:"api,omitempty"`     // of API activities
	Resources    []ocsfResource `json:"resources,omitempty"`
	Source       ocsfEndpoint   `json:"src_endpoint"`
	Unmapped     map[string]any `json:"unmapped"`
}

type ocsfMetadata struct {
	Version          string      `json:"version"`
	Product          ocsfProduct `json:"product"`
	UID              string      `json:"uid"`
	OriginalEventUID string      `json:"original_event_uid"`
	EventCode        string      `json:"event_code"`
	CorrelationUID   string      `json:"correlation_uid,omitempty"`
	Sequence         int64       `json:"sequence"`
	TenantUID        string      `json:"tenant_uid,omitempty"`
	LogName          string      `json:"log_name"`
}

type ocsfProduct struct {
	Name    string `json:"name"`
	Vendor  string `json:"vendor_name"`
	Version string `json:"version"`
}

type ocsfActor struct {
	User ocsfUser `json:"user"`
}

type ocsfUser struct {
	UID    string `json:"uid,omitempty"`
	Name   string `json:"name,omitempty"`
	TypeID int    `json:"type_id"`
	Type   string `json:"type,omitempty"`
}

type ocsfNamed struct {
	Name string `json:"name"`
}

type ocsfAPI struct {
	Operation string       `json:"operation"`
	Request   *ocsfRequest `json:"request,omitempty"`
	Service   *ocsfNamed   `json:"service,omitempty"`
}

type ocsfRequest struct {
	UID string `json:"uid"`
}

type ocsfResource struct {
	UID  string `json:"uid"`
	Type string `json:"type"`
}

type ocsfEndpoint struct {
	IP   string `json:"ip,omitempty"`
	Name string `json:"name,omitempty"`
}

// ocsfLine is a record as an event of OCSF, on a line of its own.
func ocsfLine(e *audit.Entry) ([]byte, error) {
	line, err := json.Marshal(ocsfOf(e))
	return append(line, '\n'), err
}

func ocsfOf(e *audit.Entry) *ocsfEvent {
	event := &ocsfEvent{
		Time: e.Time.UnixMilli(), StatusCode: e.Reason, StatusDetail: e.Detail,
		Metadata: ocsfMetadata{
			Version: ocsfVersion, Product: ocsfProduct{"AgentKeys", "AgentKeys", version()}, UID: e.ID, OriginalEventUID: e.ID, EventCode: e.Action,
			CorrelationUID: e.RequestID, Sequence: e.Seq, TenantUID: e.Tenant, LogName: "audit",
		},
		Actor: ocsfActor{ocsfWho(e)}, Source: ocsfFrom(e), Unmapped: ocsfRest(e),
	}
	event.StatusID, event.Status, event.SeverityID = ocsfStatus(e.Outcome)
	event.ClassUID, event.ActivityID = ocsfClass(e.Action)
	event.CategoryUID, event.TypeUID = event.ClassUID/1000, event.ClassUID*100+event.ActivityID
	if event.ActivityID == ocsfOther {
		event.ActivityName = e.Action
	}
	if event.ClassUID == ocsfAuthentication {
		event.User, event.Service = &event.Actor.User, &ocsfNamed{"AgentKeys"}
		for name, value := range map[string]string{"token_id": e.TokenID, "grant_id": e.GrantID, "credential_id": e.CredentialID, "service": e.Service} {
			if value != "" {
				event.Unmapped[name] = value
			}
		}
		return event
	}
	event.API = &ocsfAPI{Operation: e.Action, Request: &ocsfRequest{e.RequestID}}
	if e.Service != "" {
		event.API.Service = &ocsfNamed{e.Service}
	}
	for _, r := range []ocsfResource{{e.GrantID, "grant"}, {e.CredentialID, "AWS access key"}, {e.TokenID, "token"}} {
		if r.UID != "" {
			event.Resources = append(event.Resources, r)
		}
	}
	return event
}

// ocsfClass is the class of an action and the activity in it, by the words of the
// action's name.
func ocsfClass(action string) (class, activity int) {
	words := strings.Split(action, ".")
	first, last := words[0], words[len(words)-1]
	if first == "auth" {
		switch last {
		case "start", "request":
			return ocsfAuthentication, ocsfPreauth
		case "logout":
			return ocsfAuthentication, ocsfLogoff
		}
		return ocsfAuthentication, ocsfLogon
	}
	switch last {
	case "create", "link":
		return ocsfAPIActivity, ocsfCreate
	case "read", "list", "export", "lookup":
		return ocsfAPIActivity, ocsfRead
	case "update", "rotate":
		return ocsfAPIActivity, ocsfUpdate
	case "revoke", "delete", "erase", "prune":
		return ocsfAPIActivity, ocsfDelete
	}
	if first == "mint" {
		return ocsfAPIActivity, ocsfCreate
	}
	return ocsfAPIActivity, ocsfOther
}

// ocsfStatus is what an outcome is called, and how much it matters.
func ocsfStatus(outcome string) (id int, name string, severity int) {
	switch audit.StatusOf(outcome) {
	case audit.StatusConfirmed:
		return 1, "Success", ocsfInformational
	case audit.StatusFailed:
		return 2, "Failure", ocsfLow
	case audit.StatusQuarantined:
		return ocsfOther, outcome, ocsfMedium
	}
	return ocsfOther, outcome, ocsfInformational
}

// ocsfWho is who asked. A class that wants somebody gets a name also where there was
// nobody, or where nobody is known any more.
func ocsfWho(e *audit.Entry) ocsfUser {
	switch {
	case len(e.Person) > 0:
		return ocsfUser{Name: "erased", TypeID: 0}
	case e.OmniAccount == "" && e.Wallet == "" && e.IdentityValue == "" && e.Source == "":
		return ocsfUser{Name: "AgentKeys", TypeID: 3}
	case e.OmniAccount == "" && e.Wallet == "" && e.IdentityValue == "":
		return ocsfUser{Name: "unknown", TypeID: 0}
	}
	u := ocsfUser{UID: e.OmniAccount, TypeID: 1}
	for _, name := range []string{e.Wallet, e.IdentityValue} {
		if u.Name == "" {
			u.Name = name
		}
	}
	return u
}

// ocsfFrom is where it was asked from.
func ocsfFrom(e *audit.Entry) ocsfEndpoint {
	if ip, err := netip.ParseAddr(e.Source); err == nil {
		return ocsfEndpoint{IP: ip.String()}
	}
	switch {
	case e.Source != "":
		return ocsfEndpoint{Name: e.Source}
	case len(e.Person) > 0:
		return ocsfEndpoint{Name: "erased"}
	}
	return ocsfEndpoint{Name: "AgentKeys"}
}

// ocsfRest is what OCSF has no place for, under the names of the leaf.
func ocsfRest(e *audit.Entry) map[string]any {
	rest := map[string]any{"place": e.Seq, "outcome": e.Outcome, "hash": e.LeafHash(e.Digest()).String()}
	for name, value := range map[string]string{
		"agent": e.Agent, "scope_path": e.ScopePath, "identity_type": e.IdentityType, "identity_value": e.IdentityValue,
		"key_id": e.KeyID, "settles": e.Settles,
	} {
		if value != "" {
			rest[name] = value
		}
	}
	return rest
}
