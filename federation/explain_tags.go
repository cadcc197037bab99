package federation

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// checkTags reads the session tags. A token from which AWS reads none is taken all
// the same, and makes an untagged session.
func (e *explainer) checkTags() ExplainStep {
	s := stepPassed("tags", "the tags claim has AWS's shape", "")
	if e.token == nil {
		return e.noToken(s)
	}
	key := e.Config.TagKey
	s.Want = tagShape(key)
	tags := readTags(e.token.Claims)
	if tags.Problem != "" {
		e.guessTags()
		return s.fails(tags.Problem, toldOfTags(tags), fmt.Sprintf("Mint %q as %s.", tagsClaim, tagShape(key)))
	}
	e.id.tags, e.id.transitive = tags.Tags, tags.Transitive
	s.Got = "no session tag"
	if len(tags.Tags) > 0 {
		s.Got = showTags(tags.Tags, tags.Transitive)
	}
	value, has := tags.get(key)
	switch {
	case !has:
		why := noTag(e.token.Claims, tags, key)
		e.tagWhy, e.tagFix = why, fmt.Sprintf("mint %q as %s", tagsClaim, tagShape(key))
		return s.note("AWS takes the token and makes a session without the tag %s: %s", key, why)
	case value == "":
		s = s.note("the tag is empty, which is a tag all the same: Null \"false\" lets it pass")
	case !tenantTag.MatchString(value):
		s = s.note("the value is not of a tenant's shape, which is a wallet or an omni account in lower case")
	}
	for _, t := range tags.Tags {
		if strings.EqualFold(t.Key, key) && t.Key != key {
			s = s.note("the key is %q, not %q: condition keys go without regard to case, the values of aws:TagKeys do not", t.Key, key)
		}
	}
	return s
}

func tagShape(key string) string {
	return fmt.Sprintf(`{"principal_tags": {%q: ["<tag>"]}}`, key)
}

// toldOfTags is what STS says of tags that it refuses.
func toldOfTags(t tokenTags) *ToldError {
	if t.Claim != "" {
		told := invalidToken("%s passed in claim is not in correct format.", t.Claim)
		told.Guessed = t.Claim != "principal_tags"
		return told
	}
	if strings.Contains(t.Problem, "at most") {
		return invalidToken("Session tags passed in claim exceed the limit of %d.", maxTokenTags).inOtherWords()
	}
	return invalidToken("Session tags are passed in the nested and in the flattened form; want one of them.").inOtherWords()
}

// guessTags takes the tag that was meant from a claim that AWS refuses, so that
// what comes after can be tried.
func (e *explainer) guessTags() {
	key := e.Config.TagKey
	tags := tokenTag{key, sampleTag}
	if claim, ok := jsonObject(e.token.Claims[tagsClaim]); ok {
		if members, ok := jsonObject(claim["principal_tags"]); ok {
			if values, ok := jsonTextOrTexts(members[key]); ok && len(values) > 0 && values[0] != "" {
				tags.Value = values[0]
			}
		}
	}
	e.id.tags, e.id.transitive = []tokenTag{tags}, nil
}

func showTags(tags []tokenTag, transitive []string) string {
	var out []string
	for _, t := range tags {
		text := t.Key + "=" + strconv.Quote(t.Value)
		if slices.ContainsFunc(transitive, func(k string) bool { return strings.EqualFold(k, t.Key) }) {
			text += " (transitive)"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

var sourceIdentityForm = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

// checkSourceIdentity reads the claim that names the person behind the session. A
// token without one has nothing to check.
func (e *explainer) checkSourceIdentity() ExplainStep {
	if e.token == nil {
		return ExplainStep{}
	}
	raw, present := e.token.Claims[sourceIdentityClaim]
	if !present {
		return ExplainStep{}
	}
	s := stepPassed("source-identity", "the source identity has AWS's shape", "").compared("a string of 2 to 64 of A-Z a-z 0-9 _ + = , . @ -", clip(string(raw), 80))
	source, ok := jsonText(raw)
	if !ok || !sourceIdentityForm.MatchString(source) {
		e.id.source = "source"
		return s.fails("the source identity is not of that shape", invalidToken("source_identity passed in claim is not in correct format.").inOtherWords(),
			"Mint "+sourceIdentityClaim+" in that shape, or leave it out.")
	}
	e.id.source = source
	return s
}

// checkRolesClaim holds the role against the token's own list, where it has one.
func (e *explainer) checkRolesClaim() ExplainStep {
	if e.token == nil {
		return ExplainStep{}
	}
	raw, present := e.token.Claims[rolesClaim]
	if !present {
		return ExplainStep{}
	}
	s := stepPassed("roles-claim", "the token is for this role", "").compared(e.RoleARN, clip(string(raw), 400))
	roles, ok := jsonTexts(raw)
	if one, isText := jsonText(raw); isText {
		roles, ok = strings.Split(one, ";"), true
	}
	if !ok {
		return s.fails("its claim "+rolesClaim+" is "+jsonKind(raw), invalidToken("roles passed in claim is not in correct format.").inOtherWords(),
			"Mint the roles as an array of exact role ARNs.")
	}
	e.id.roleIsNamed = slices.Contains(roles, e.RoleARN)
	if !e.id.roleIsNamed {
		return s.fails("its claim "+rolesClaim+" does not list the role; ARNs are compared exactly, without patterns",
			invalidToken("The requested role is not one of the roles passed in the claim.").inOtherWords(),
			"Assume a role that the token lists, or mint the token for this role.")
	}
	return s
}
