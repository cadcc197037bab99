package federation

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"agentkeys/policy"
)

// The values that condition keys are tried with come from the documents: for each
// key, every text that the patterns it is compared with tell apart, the bounds of
// numbers and times and what lies on either side of them, the ends of networks,
// and its being absent or empty.

// sourceAddress is that of a caller somewhere on the internet (RFC 5737).
const sourceAddress = "203.0.113.10"

// listKeys hold several values.
// Source: IAM User Guide, reference_policies_condition-keys.
var listKeys = []string{
	"aws:tagkeys", "sts:transitivetagkeys", "s3:requestobjecttagkeys", "aws:principalorgpaths", "aws:resourceorgpaths",
	"aws:calledvia", "aws:principalservicenameslist",
}

func isList(key string) bool { return slices.Contains(listKeys, key) || strings.HasSuffix(key, ":amr") }

// presentKeys are in every request that has them at all: a sender can choose their
// value but not leave them out.
var presentKeys = []string{"aws:securetransport", "aws:currenttime", "aws:epochtime", "aws:tokenissuetime", "s3:max-keys"}

// ordinary is the value of a free key in a request that nobody thought about.
func (k *checker) ordinary(key string) value {
	one := func(text string) value { return value{vals: []string{text}} }
	switch key {
	case "aws:securetransport":
		return one("true")
	case "aws:sourceip":
		return one(sourceAddress)
	case "aws:currenttime", "aws:tokenissuetime":
		return one(k.now.Format(time.RFC3339))
	case "aws:epochtime":
		return one(strconv.FormatInt(k.now.Unix(), 10))
	case "s3:max-keys":
		return one("1000")
	case "s3:signatureversion":
		return one("AWS4-HMAC-SHA256")
	case "s3:authtype":
		return one("REST-HEADER")
	case "s3:tlsversion":
		return one("1.3")
	}
	return value{absent: true}
}

// valuesOf is the domain of a key under the conditions that mention it, the
// ordinary value first.
func (k *checker) valuesOf(key string, conditions []*condition, keys *policy.Context) []value {
	d := &domain{key: key, now: k.now, list: isList(key)}
	d.add(k.ordinary(key))
	if !slices.Contains(presentKeys, key) {
		d.add(value{absent: true})
	}
	var globs []policy.Glob
	for _, c := range conditions {
		switch family := familyOf(c.Operator); family {
		case "String", "Arn":
			globs = append(globs, c.globs(keys)...)
		default:
			for _, text := range c.Values {
				d.bounds(family, text)
			}
		}
	}
	start := ""
	if len(globs) > 0 || len(d.values) < 2 || d.onlyAbsent() {
		if slices.ContainsFunc(conditions, func(c *condition) bool { return familyOf(c.Operator) == "Arn" }) {
			start = "arn:"
		}
		texts, complete := policy.Distinguish(start, globs, policy.Alphabet{Max: 2048}, "other", "")
		if !complete {
			k.incomplete("condition key " + key)
		}
		for _, text := range texts {
			d.add(value{vals: []string{text}})
		}
	}
	if d.list {
		d.combine()
	}
	if slices.Contains(accessPointKeys[:2], key) {
		d.values = slices.DeleteFunc(d.values, k.ownAccessPoint)
	}
	return d.values
}

// globs are the patterns that the condition holds its key against, under the
// variables that keys have. Where it ignores case, they are those as it is written
// and in either case.
func (c *condition) globs(keys *policy.Context) []policy.Glob {
	var globs []policy.Glob
	family := familyOf(c.Operator)
	for _, text := range c.Values {
		switch d := c.part.document; {
		case family == "Arn":
			globs = append(globs, d.Globs(text, true, keys)...)
		case family == "String" && strings.Contains(c.Operator, "IgnoreCase"):
			for _, form := range []string{text, strings.ToUpper(text), strings.ToLower(text)} {
				globs = append(globs, d.Globs(form, false, keys)...)
			}
		case family == "String":
			globs = append(globs, d.Globs(text, strings.Contains(c.Operator, "Like"), keys)...)
		}
	}
	return globs
}

// ownAccessPoint reports whether a value names an access point of the account
// itself, of which there are those that were looked at.
func (k *checker) ownAccessPoint(v value) bool {
	return slices.ContainsFunc(v.vals, func(text string) bool {
		parts := strings.SplitN(text, ":", 6)
		return text == k.Config.Account || len(parts) == 6 && parts[4] == k.Config.Account
	})
}

// familyOf is the kind of comparison that an operator makes: String, Arn, Numeric,
// Date, Bool, Binary, IpAddress or Null.
func familyOf(operator string) string {
	_, base, qualified := strings.Cut(operator, ":")
	if !qualified {
		base = operator
	}
	for _, family := range []string{"String", "Arn", "Numeric", "Date", "Bool", "Binary", "Null"} {
		if strings.HasPrefix(base, family) {
			return family
		}
	}
	return "IpAddress"
}

// domain gathers values without repeating any.
type domain struct {
	key    string
	now    time.Time
	list   bool
	values []value
}

func (d *domain) add(v value) {
	v.list = d.list && !v.absent
	same := func(w value) bool { return w.absent == v.absent && slices.Equal(w.vals, v.vals) }
	if !slices.ContainsFunc(d.values, same) {
		d.values = append(d.values, v)
	}
}

func (d *domain) text(texts ...string) {
	for _, t := range texts {
		d.add(value{vals: []string{t}})
	}
}

func (d *domain) onlyAbsent() bool {
	return !slices.ContainsFunc(d.values, func(v value) bool { return !v.absent })
}

// bounds adds the values on either side of a policy's.
func (d *domain) bounds(family, text string) {
	switch family {
	case "Bool":
		d.text("true", "false")
	case "Numeric":
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			for _, f := range []float64{f, f - 1, f + 1} {
				if d.key != "s3:max-keys" || f >= 1 { // a page of no keys shows none
					d.text(number(f))
				}
			}
		}
	case "Date":
		d.times(text)
	case "IpAddress":
		d.network(text)
	case "Binary":
		d.text(text)
	case "Null":
		if d.onlyAbsent() {
			d.text("other")
		}
	}
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// times adds the seconds around a policy's date. Of the keys that are a time of
// the request, none can lie in the past any more.
func (d *domain) times(text string) {
	at, epoch, ok := readTime(text)
	if !ok {
		return
	}
	clock := slices.Contains(presentKeys, d.key)
	for _, shift := range []time.Duration{-time.Second, 0, time.Second} {
		t := at.Add(shift)
		if clock && t.Before(d.now) {
			continue
		}
		if epoch || d.key == "aws:epochtime" {
			d.text(strconv.FormatInt(t.Unix(), 10))
		} else {
			d.text(t.UTC().Format(time.RFC3339))
		}
	}
}

func readTime(text string) (at time.Time, epoch, ok bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(n, 0), true, true
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02", "2006-01"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, false, true
		}
	}
	return time.Time{}, false, false
}

// network adds the two ends of a network, and addresses outside of most.
func (d *domain) network(text string) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	p = p.Masked()
	last := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	end, _ := netip.AddrFromSlice(last)
	d.text(p.Addr().String(), end.String())
	if before := p.Addr().Prev(); before.IsValid() {
		d.text(before.String())
	}
	if after := end.Next(); after.IsValid() {
		d.text(after.String())
	}
	d.text("198.51.100.7", "2001:db8::7")
}

// combine adds for a list key the lists of two and all of its values, besides
// each alone.
func (d *domain) combine() {
	var texts []string
	for _, v := range d.values {
		if !v.absent && len(v.vals) == 1 {
			texts = append(texts, v.vals[0])
		}
	}
	if len(texts) < 2 {
		return
	}
	if len(texts) <= 8 {
		for i := range texts {
			for j := range i {
				d.add(value{vals: []string{texts[j], texts[i]}})
			}
		}
	}
	d.add(value{vals: texts})
}
