package localaws

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxParams bounds the members of a query request. The largest honest one is
// AssumeRole with 50 tags and 50 transitive keys.
const maxParams = 1000

// params are the parameters of a query request, each of which came once.
type params map[string]string

// isQueryRequest tells the query protocol of STS and IAM from S3, which shares
// the endpoint: a form posted to the root, or a GET or POST of it that names an
// Action. A body that is not said to be anything is a form, since S3 has no POST
// at the root. The caller has made sure that the host names no bucket.
func isQueryRequest(r *http.Request) bool {
	if r.URL.Path != "/" && r.URL.Path != "" {
		return false
	}
	switch r.Method {
	case http.MethodPost:
		return mayBeForm(r) || namesAction(r)
	case http.MethodGet:
		return namesAction(r)
	}
	return false
}

func namesAction(r *http.Request) bool {
	query, err := parseQuery(r.URL.RawQuery)
	return err == nil && slices.ContainsFunc(query, func(p param) bool { return p.name == "Action" })
}

// mayBeForm reports whether the body is a form by its type, or has no type.
func mayBeForm(r *http.Request) bool {
	sent := r.Header.Get("Content-Type")
	kind, _, _ := mime.ParseMediaType(sent)
	return sent == "" || kind == "application/x-www-form-urlencoded"
}

// readParams reads the parameters, from the query of a GET or from query and
// body of a POST, and leaves the body in place for the signature.
func readParams(r *http.Request) (params, *apiError) {
	if r.Method == http.MethodGet {
		return parseParams(r.URL.RawQuery)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxQueryBody+1))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "MalformedInput", "The request body could not be read to its end.")
	}
	if len(body) > maxQueryBody {
		return nil, refuse(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "The request body is longer than %d bytes.", maxQueryBody)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if len(body) > 0 && !mayBeForm(r) {
		return nil, refuse(http.StatusBadRequest, "MalformedInput", "The request body is %s; want a form.", clip(r.Header.Get("Content-Type")))
	}
	return parseParams(r.URL.RawQuery, string(body))
}

// parseParams refuses a parameter that comes twice, be it once in each text:
// which of the two counts would be a guess, and the signature covers both.
func parseParams(texts ...string) (params, *apiError) {
	var list []param
	for _, text := range texts {
		some, err := parseQuery(text)
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "MalformedInput", "The parameters are not form-encoded.")
		}
		list = append(list, some...)
	}
	if len(list) > maxParams {
		return nil, refuse(http.StatusBadRequest, "MalformedInput", "Want at most %d parameters, got %d.", maxParams, len(list))
	}
	p := make(params, len(list))
	for _, one := range list {
		if !utf8.ValidString(one.name) || !utf8.ValidString(one.value) {
			return nil, refuse(http.StatusBadRequest, "MalformedInput", "A parameter is not UTF-8.")
		}
		if _, twice := p[one.name]; twice {
			return nil, refuse(http.StatusBadRequest, "MalformedInput", "The parameter %s came twice.", clip(one.name))
		}
		p[one.name] = one.value
	}
	return p, nil
}

// list returns the values NAME.member.N in the order of N.
func (p params) list(name string) ([]string, *apiError) {
	indexes, e := p.indexes(name, "")
	if e != nil {
		return nil, e
	}
	values := make([]string, len(indexes))
	for i, n := range indexes {
		values[i] = p[fmt.Sprintf("%s.member.%d", name, n)]
	}
	return values, nil
}

// tags returns NAME.member.N.Key and .Value in the order of N. A member without
// Key or without Value has "" there, which validation then refuses or not.
func (p params) tags(name string) ([]tag, *apiError) {
	indexes, e := p.indexes(name, ".")
	if e != nil {
		return nil, e
	}
	tags := make([]tag, len(indexes))
	for i, n := range indexes {
		prefix := fmt.Sprintf("%s.member.%d.", name, n)
		if _, ok := p[prefix+"Value"]; !ok {
			return nil, violation(fmt.Sprintf("Value null at 'tags.%d.member.value' failed to satisfy constraint: Member must not be null", n))
		}
		tags[i] = tag{p[prefix+"Key"], p[prefix+"Value"]}
	}
	return tags, nil
}

// indexes finds the N of NAME.member.N, or of NAME.member.N.… where sep is ".".
func (p params) indexes(name, sep string) ([]int, *apiError) {
	var found []int
	for key := range p {
		rest, ok := strings.CutPrefix(key, name+".member.")
		if !ok {
			continue
		}
		if sep != "" {
			if rest, _, ok = strings.Cut(rest, sep); !ok {
				return nil, refuse(http.StatusBadRequest, "MalformedInput", "The parameter %s has no member name.", clip(key))
			}
		}
		n, err := strconv.Atoi(rest)
		if err != nil || n < 1 || n > maxParams || strconv.Itoa(n) != rest {
			return nil, refuse(http.StatusBadRequest, "MalformedInput", "The parameter %s has no list index from 1 to %d.", clip(key), maxParams)
		}
		if !slices.Contains(found, n) {
			found = append(found, n)
		}
	}
	slices.Sort(found)
	return found, nil
}

// integer reads an optional integer. AWS takes digits only: no spaces, no
// fraction, no exponent.
func (p params) integer(name string, fallback int) (int, *apiError) {
	text, ok := p[name]
	if !ok {
		return fallback, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || strings.HasPrefix(text, "+") {
		return 0, refuse(http.StatusBadRequest, "MalformedInput", "The parameter %s must be an integer.", name)
	}
	return int(n), nil
}

// violations collects what is wrong with the parameters of one request.
type violations []string

func (v *violations) add(value, member, constraint string) {
	*v = append(*v, fmt.Sprintf("Value '%s' at '%s' failed to satisfy constraint: %s", clip(value), member, constraint))
}

// text checks a parameter's length, in characters, and its pattern, which
// covers the whole value; nil is no pattern.
func (v *violations) text(p params, name string, required bool, minimum, maximum int, pattern *pattern) {
	member := strings.ToLower(name[:1]) + name[1:]
	value, ok := p[name]
	if !ok {
		if required {
			*v = append(*v, fmt.Sprintf("Value null at '%s' failed to satisfy constraint: Member must not be null", member))
		}
		return
	}
	v.value(value, member, minimum, maximum, pattern)
}

func (v *violations) value(value, member string, minimum, maximum int, pattern *pattern) {
	shown := value
	if member == "webIdentityToken" { // a secret is not echoed
		shown = "***"
	}
	if n := utf8.RuneCountInString(value); n < minimum {
		v.add(shown, member, fmt.Sprintf("Member must have length greater than or equal to %d", minimum))
	} else if n > maximum {
		v.add(shown, member, fmt.Sprintf("Member must have length less than or equal to %d", maximum))
	}
	if pattern != nil && !pattern.re.MatchString(value) {
		v.add(shown, member, "Member must satisfy regular expression pattern: "+pattern.source)
	}
}

// number checks that n is within minimum and maximum.
func (v *violations) number(n int, member string, minimum, maximum int) {
	if n < minimum {
		v.add(strconv.Itoa(n), member, fmt.Sprintf("Member must have value greater than or equal to %d", minimum))
	} else if n > maximum {
		v.add(strconv.Itoa(n), member, fmt.Sprintf("Member must have value less than or equal to %d", maximum))
	}
}

// refusal is the ValidationError that lists all violations, or nil.
func (v violations) refusal() *apiError {
	switch len(v) {
	case 0:
		return nil
	case 1:
		return violation(v[0])
	}
	return refuse(http.StatusBadRequest, "ValidationError", "%d validation errors detected: %s", len(v), strings.Join(v, "; "))
}

func violation(text string) *apiError {
	return refuse(http.StatusBadRequest, "ValidationError", "1 validation error detected: %s", text)
}

// pattern is a regular expression over a whole value, and how AWS prints it.
type pattern struct {
	source string
	re     *regexp.Regexp
}

func newPattern(source, expression string) *pattern {
	return &pattern{source, regexp.MustCompile(`^(?:` + expression + `)$`)}
}

// The patterns of the STS and IAM API models.
var (
	namePattern     = newPattern(`[\w+=,.@-]*`, `[\w+=,.@-]*`)
	nameRequired    = newPattern(`[\w+=,.@-]+`, `[\w+=,.@-]+`)
	externalPattern = newPattern(`[\w+=,.@:\/-]*`, `[\w+=,.@:/-]*`)
	pathPattern     = newPattern(`(\u002F)|(\u002F[\u0021-\u007F]+\u002F)`, `/|/[\x21-\x7e]+/`)
	tagKeyPattern   = newPattern(`[\p{L}\p{Z}\p{N}_.:/=+\-@]+`, `[\p{L}\p{Z}\p{N}_.:/=+\-@]+`)
	tagValuePattern = newPattern(`[\p{L}\p{Z}\p{N}_.:/=+\-@]*`, `[\p{L}\p{Z}\p{N}_.:/=+\-@]*`)
	documentPattern = newPattern(`[\u0009\u000A\u000D\u0020-\u00FF]+`, `[\t\n\r\x{20}-\x{ff}]+`)
	descriptionText = newPattern(`[\u0009\u000A\u000D\u0020-\u007E\u00A1-\u00FF]*`, `[\t\n\r\x{20}-\x{7e}\x{a1}-\x{ff}]*`)
)

// clip shortens what a caller sent before it is shown back.
func clip(text string) string {
	const most = 512
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// The namespaces of the two services' replies.
const (
	stsVersion   = "2011-06-15"
	iamVersion   = "2010-05-08"
	stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"
	iamNamespace = "https://iam.amazonaws.com/doc/2010-05-08/"
)

// list is an XML list that shows up even when it is empty: clients read an
// absent list as no member at all.
type list[T any] struct {
	Member []T `xml:"member"`
}

// writeReply writes the reply of an action; result is nil for the actions that
// have none.
func writeReply(w http.ResponseWriter, namespace, action, requestID string, result any) error {
	var b bytes.Buffer
	e := xml.NewEncoder(&b)
	root := xml.StartElement{Name: xml.Name{Local: action + "Response"},
		Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: namespace}}}
	if err := e.EncodeToken(root); err != nil {
		return err
	}
	if result != nil {
		if err := e.EncodeElement(result, xml.StartElement{Name: xml.Name{Local: action + "Result"}}); err != nil {
			return err
		}
	}
	meta := struct {
		RequestID string `xml:"RequestId"`
	}{requestID}
	if err := e.EncodeElement(meta, xml.StartElement{Name: xml.Name{Local: "ResponseMetadata"}}); err != nil {
		return err
	}
	if err := e.EncodeToken(root.End()); err != nil {
		return err
	}
	if err := e.Flush(); err != nil {
		return err
	}
	writeXML(w, http.StatusOK, b.Bytes())
	return nil
}

// writeQueryError writes a refusal as the query protocol does.
func writeQueryError(w http.ResponseWriter, namespace, requestID string, e *apiError) {
	body, err := xml.Marshal(xmlError{Namespace: namespace, Type: e.Type, Code: e.Code, Message: e.Message, RequestID: requestID})
	if err != nil { // strings always marshal
		body = nil
	}
	writeXML(w, e.Status, body)
}

func writeXML(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "text/xml")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) // a client that went away is not our error
}
