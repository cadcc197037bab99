package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"agentkeys/audit"
)

// ocsfSchema is what the schema wants of the classes and objects that we write.
type ocsfSchema struct {
	Version          string
	Source           string
	Classes, Objects map[string]ocsfKind
}

type ocsfKind struct {
	Required   []string
	AtLeastOne []string `json:"at_least_one"`
	Enums      map[string][]float64
	Attributes map[string]string // their types
}

func readOCSFSchema(t *testing.T) ocsfSchema {
	t.Helper()
	text, err := os.ReadFile("testdata/ocsf-1.9.0.json")
	if err != nil {
		t.Fatal(err)
	}
	var s ocsfSchema
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// check holds an object against its kind, and what is in it against theirs.
func (s ocsfSchema) check(kind ocsfKind, at string, object map[string]any) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, at+": "+fmt.Sprintf(format, args...)) }
	for _, name := range kind.Required {
		if _, ok := object[name]; !ok {
			fault("lacks %s", name)
		}
	}
	if len(kind.AtLeastOne) > 0 && !slices.ContainsFunc(kind.AtLeastOne, func(name string) bool { return object[name] != nil }) {
		fault("lacks one of %s", strings.Join(kind.AtLeastOne, ", "))
	}
	for name, value := range object {
		of, ok := kind.Attributes[name]
		if !ok {
			fault("%s is not an attribute", name)
			continue
		}
		if values, ok := kind.Enums[name]; ok && !slices.Contains(values, value.(float64)) {
			fault("%s: %v is none of %v", name, value, values)
		}
		faults = append(faults, s.checkValue(of, at+"."+name, value)...)
	}
	return faults
}

func (s ocsfSchema) checkValue(of, at string, value any) []string {
	if element, array := strings.CutPrefix(of, "[]"); array {
		var faults []string
		for _, v := range value.([]any) {
			faults = append(faults, s.checkValue(element, at, v)...)
		}
		return faults
	}
	ok := false
	switch of {
	case "integer":
		n, is := value.(float64)
		ok = is && n == math.Trunc(n)
	case "string":
		text, is := value.(string)
		ok = is && text != ""
	case "ip":
		text, _ := value.(string)
		_, err := netip.ParseAddr(text)
		ok = err == nil
	case "object":
		_, ok = value.(map[string]any)
	default:
		object, is := value.(map[string]any)
		kind, known := s.Objects[of]
		if is && known {
			return s.check(kind, at, object)
		}
	}
	if !ok {
		return []string{fmt.Sprintf("%s: want %s, got %v", at, of, value)}
	}
	return nil
}

// ocsfRecords are records of each kind that there is, with as many and as few members
// as they can have.
func ocsfRecords() []audit.Entry {
	at := time.Date(2030, 1, 2, 12, 0, 0, 123e6, time.UTC)
	full := audit.Record{
		Seq: 7, ID: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Time: at, Action: "mint.aws_credentials", Outcome: audit.Confirmed, Reason: "grant_expired",
		IdentityType: "evm", IdentityValue: "0x71c7656ec7ab88b098defb751b7401b5f6d8976f", OmniAccount: strings.Repeat("9b", 32),
		Wallet: "0x71c7656ec7ab88b098defb751b7401b5f6d8976f", KeyID: "ak-oidc-n4bQ", TokenID: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", Source: "2001:db8::1", RequestID: "req-1",
		Tenant: "0x52908400098527886e0f7030069857d2e4169ee7", Agent: "nightly", Service: "s3", ScopePath: "reports", GrantID: "grn-ABCDEFGHIJKLMNOP",
		CredentialID: "ASIAIOSFODNN7EXAMPLE", Settles: "01ARZ3NDEKTSV4RRFFQ69G5FAW", Detail: "of the key",
	}
	least := audit.Record{Seq: 8, ID: full.ID, Time: at, Action: full.Action, Outcome: full.Outcome, RequestID: full.RequestID}
	unknown := least
	unknown.Source = "unix socket"
	var all []audit.Entry
	for _, r := range []audit.Record{full, least, unknown} {
		for _, action := range []string{"mint.oidc_jwt", "mint.aws_credentials", "auth.wallet.verify", "auth.email.request", "auth.logout", "grant.create",
			"grant.revoke", "wallet.link", "audit.read", "key.rotate", "broker.start", "person.erase", "other"} {
			r.Action = action
			for _, r.Outcome = range audit.Outcomes() {
				all = append(all, audit.Entry{Record: r})
			}
		}
	}
	erased := audit.Entry{Record: least, Person: bytes.Repeat([]byte{1}, 32)}
	return append(all, erased)
}

func TestOCSFEventsHoldToTheSchema(t *testing.T) {
	s := readOCSFSchema(t)
	if s.Version != ocsfVersion {
		t.Fatalf("the schema is of %s, the events of %s", s.Version, ocsfVersion)
	}
	classes := map[string]int{}
	for _, e := range ocsfRecords() {
		line, err := ocsfLine(&e)
		if err != nil {
			t.Fatal(err)
		}
		var event map[string]any
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatal(err)
		}
		class := fmt.Sprint(event["class_uid"])
		classes[class]++
		faults := s.check(s.Classes[class], class, event)
		if event["type_uid"] != event["class_uid"].(float64)*100+event["activity_id"].(float64) {
			faults = append(faults, "type_uid is not class_uid * 100 + activity_id")
		}
		if event["time"] != float64(e.Time.UnixMilli()) {
			faults = append(faults, fmt.Sprintf("time: want %d, got %v", e.Time.UnixMilli(), event["time"]))
		}
		if event["activity_id"] == 99.0 && event["activity_name"] != e.Action {
			faults = append(faults, "activity 99 has no activity_name")
		}
		if caption := map[any]string{1.0: "Success", 2.0: "Failure", 99.0: e.Outcome}[event["status_id"]]; event["status"] != caption {
			faults = append(faults, fmt.Sprintf("status: want %q, got %q", caption, event["status"]))
		}
		if len(faults) > 0 {
			t.Errorf("%s %s:\n%s\n%s", e.Action, e.Outcome, strings.Join(faults, "\n"), line)
		}
	}
	if got := slices.Sorted(maps.Keys(classes)); !slices.Equal(got, slices.Sorted(maps.Keys(s.Classes))) {
		t.Errorf("events of the classes %q, want each of the schema's", got)
	}
}

// Every text of a record is somewhere in its event.
func TestOCSFEventsLeaveNothingOut(t *testing.T) {
	e := ocsfRecords()[0]
	for _, action := range []string{"mint.aws_credentials", "auth.wallet.verify"} {
		e.Action = action
		line, err := ocsfLine(&e)
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			"id": e.ID, "action": e.Action, "outcome": e.Outcome, "reason": e.Reason, "identity_type": e.IdentityType, "identity_value": e.IdentityValue,
			"omni_account": e.OmniAccount, "wallet": e.Wallet, "key_id": e.KeyID, "token_id": e.TokenID, "source": e.Source, "request_id": e.RequestID,
			"tenant": e.Tenant, "agent": e.Agent, "service": e.Service, "scope_path": e.ScopePath, "grant_id": e.GrantID, "credential_id": e.CredentialID,
			"settles": e.Settles, "detail": e.Detail,
		} {
			if !bytes.Contains(line, []byte(`"`+text+`"`)) {
				t.Errorf("%s: %s %q is not in %s", action, name, text, line)
			}
		}
	}
}
