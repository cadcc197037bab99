package federation

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// The claims beside tagsClaim by which a token sets what the session carries.
const (
	flatTagPrefix       = tagsClaim + "/principal_tags/"
	flatTransitiveClaim = tagsClaim + "/transitive_tag_keys"
	sourceIdentityClaim = "https://aws.amazon.com/source_identity"
	rolesClaim          = "https://aws.amazon.com/roles"
)

// maxTokenTags is how many tags a session has at most.
const maxTokenTags = 50

// tokenTag is a session tag as AWS reads it from a token.
type tokenTag struct{ Key, Value string }

// tokenTags is what AWS makes of a token's tags.
type tokenTags struct {
	Tags       []tokenTag // in the order of their keys
	Transitive []string
	// Problem says why STS refuses the token for them, and Claim is the member of
	// the tags claim that it then names: principal_tags or transitive_tag_keys.
	Problem string
	Claim   string
}

// readTags reads the tags in either of their two shapes: nested, where each value
// is an array of one string, or flattened, where it is a string. A claim that
// merely looks like one of them sets no tags and is no error.
func readTags(all map[string]json.RawMessage) tokenTags {
	var t tokenTags
	nested, isNested := all[tagsClaim]
	var flat []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(name, flatTagPrefix) {
			flat = append(flat, name)
		}
	}
	_, flatTransitive := all[flatTransitiveClaim]
	switch {
	case isNested && (len(flat) > 0 || flatTransitive):
		t.refuse("", "its tags come both nested in %s and flattened; AWS does not say which would count", tagsClaim)
	case isNested:
		t.readNested(nested)
	default:
		t.readFlat(all, flat)
	}
	if t.Problem == "" {
		t.check()
	}
	return t
}

func (t *tokenTags) refuse(claim, format string, args ...any) {
	if t.Problem == "" {
		t.Claim, t.Problem = claim, oneLine(fmt.Sprintf(format, args...))
	}
}

func (t *tokenTags) readNested(raw json.RawMessage) {
	claim, ok := jsonObject(raw)
	if !ok {
		t.refuse("principal_tags", "its claim %s is not an object with principal_tags but %s", tagsClaim, jsonKind(raw))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(claim)) {
		if name != "principal_tags" && name != "transitive_tag_keys" {
			t.refuse("principal_tags", "its claim %s has a member %q; want principal_tags and transitive_tag_keys", tagsClaim, name)
		}
	}
	if raw, present := claim["principal_tags"]; present {
		t.readNestedTags(raw)
	}
	if raw, present := claim["transitive_tag_keys"]; present {
		t.readTransitive(raw)
	}
}

func (t *tokenTags) readNestedTags(raw json.RawMessage) {
	members, ok := jsonObject(raw)
	if !ok {
		t.refuse("principal_tags", "its principal_tags is not an object but %s", jsonKind(raw))
		return
	}
	for _, key := range slices.Sorted(maps.Keys(members)) {
		values, ok := jsonTexts(members[key])
		if !ok || len(values) != 1 {
			t.refuse("principal_tags", "its tag %s is not an array of one string but %s", key, jsonKind(members[key]))
			continue
		}
		t.Tags = append(t.Tags, tokenTag{key, values[0]})
	}
}

func (t *tokenTags) readFlat(all map[string]json.RawMessage, names []string) {
	for _, name := range names {
		value, ok := jsonText(all[name])
		if !ok {
			t.refuse("principal_tags", "its claim %s is not a string but %s", name, jsonKind(all[name]))
			continue
		}
		t.Tags = append(t.Tags, tokenTag{strings.TrimPrefix(name, flatTagPrefix), value})
	}
	if raw, present := all[flatTransitiveClaim]; present {
		t.readTransitive(raw)
	}
}

func (t *tokenTags) readTransitive(raw json.RawMessage) {
	var ok bool
	if t.Transitive, ok = jsonTexts(raw); !ok {
		t.refuse("transitive_tag_keys", "its transitive_tag_keys is not an array of strings but %s", jsonKind(raw))
	}
}

// check holds the tags to the limits of session tags (id_session-tags, id_tags).
func (t *tokenTags) check() {
	if n := max(len(t.Tags), len(t.Transitive)); n > maxTokenTags {
		t.refuse("", "it has %d tags; want at most %d", n, maxTokenTags)
		return
	}
	for i, tag := range t.Tags {
		if p := tag.problem(); p != "" {
			t.refuse("principal_tags", "its tag %s %s", clip(tag.Key, 40), p)
		} else if hasTagKey(t.Tags[:i], tag.Key) {
			t.refuse("principal_tags", "its tag %s comes twice; case makes no difference between keys", tag.Key)
		}
	}
	for i, key := range t.Transitive {
		if !hasTagKey(t.Tags, key) {
			t.refuse("transitive_tag_keys", "its transitive key %s is no tag of it", clip(key, 40))
		} else if slices.ContainsFunc(t.Transitive[:i], func(k string) bool { return strings.EqualFold(k, key) }) {
			t.refuse("transitive_tag_keys", "its transitive key %s comes twice", key)
		}
	}
}

var tagText = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

// problem says what is wrong with one tag, or "".
func (t tokenTag) problem() string {
	reserved := func(s string) bool { return strings.HasPrefix(strings.ToLower(s), "aws:") }
	keyLength, valueLength := utf8.RuneCountInString(t.Key), utf8.RuneCountInString(t.Value)
	switch {
	case keyLength < 1 || keyLength > 128:
		return fmt.Sprintf("has a key of %d characters; want 1 to 128", keyLength)
	case valueLength > 256:
		return fmt.Sprintf("has a value of %d characters; want at most 256", valueLength)
	case reserved(t.Key) || reserved(t.Value):
		return "begins with aws:, which is reserved"
	case !tagText.MatchString(t.Key) || !tagText.MatchString(t.Value):
		return "has characters other than letters, digits, spaces and _.:/=+-@"
	}
	return ""
}

func hasTagKey(tags []tokenTag, key string) bool {
	return slices.ContainsFunc(tags, func(t tokenTag) bool { return strings.EqualFold(t.Key, key) })
}

// get is the value of a tag, by a key in any case, as condition keys are compared.
func (t *tokenTags) get(key string) (string, bool) {
	for _, tag := range t.Tags {
		if strings.EqualFold(tag.Key, key) {
			return tag.Value, true
		}
	}
	return "", false
}

// noTag says why AWS reads no tag of that key from a token that it accepts.
func noTag(all map[string]json.RawMessage, tags tokenTags, key string) string {
	if len(tags.Tags) > 0 {
		var have []string
		for _, t := range tags.Tags {
			have = append(have, t.Key)
		}
		return oneLine(fmt.Sprintf("its claim %s has no tag %s, only %s", tagsClaim, key, strings.Join(have, ", ")))
	}
	if _, ok := all[tagsClaim]; ok {
		return "its claim " + tagsClaim + " has no tag " + key
	}
	problem := "it has no claim " + tagsClaim
	if name := misspelt(all); name != "" {
		return problem + fmt.Sprintf("; %q is another name, which AWS ignores without an error", name)
	}
	if _, plain := all[key]; plain {
		problem += ", and its ordinary claim " + key + " does not count"
	}
	return problem
}

// misspelt finds a claim that was meant to be the one of the tags.
func misspelt(all map[string]json.RawMessage) string {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if name == tagsClaim || strings.HasPrefix(name, flatTagPrefix) || name == flatTransitiveClaim {
			continue
		}
		lower := strings.ToLower(name)
		if strings.Contains(lower, "aws.amazon.com") && strings.Contains(lower, "tag") || lower == "principal_tags" {
			return name
		}
	}
	return ""
}
