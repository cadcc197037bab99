package policy

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Context holds the condition keys of one request. Names are compared without
// regard to case. A key that is not there is absent, which is not the same as
// one that is present with an empty value. The zero value is an empty Context.
// It may be read by many goroutines, but not while it is changed.
type Context struct {
	keys map[string]contextValue
}

// contextValue is the value of one key. multi records how the key was declared,
// not how many values it has: a declared list of one is still multivalued.
type contextValue struct {
	single string
	list   []string
	multi  bool
}

// NewContext returns an empty Context.
func NewContext() *Context { return &Context{} }

// Set sets a single-valued key, in place of any value it had.
func (c *Context) Set(key, value string) {
	c.put(key, contextValue{single: value})
}

// SetList sets a multivalued key, in place of any value it had. The key is
// present even when there are no values.
func (c *Context) SetList(key string, values ...string) {
	c.put(key, contextValue{list: append([]string{}, values...), multi: true})
}

// SetTime sets a single-valued key to a time in ISO 8601, in UTC, with
// milliseconds where there are any: what aws:CurrentTime and
// aws:TokenIssueTime hold.
func (c *Context) SetTime(key string, t time.Time) {
	c.Set(key, t.UTC().Truncate(time.Millisecond).Format("2006-01-02T15:04:05.999Z07:00"))
}

// Values returns what a key holds, one value or a list, and whether it is there.
func (c *Context) Values(key string) ([]string, bool) {
	v, ok := c.lookup(foldKey(key))
	switch {
	case !ok:
		return nil, false
	case v.multi:
		return append([]string{}, v.list...), true
	}
	return []string{v.single}, true
}

// Delete makes a key absent.
func (c *Context) Delete(key string) { delete(c.keys, foldKey(key)) }

// Clone returns an independent copy. The clone of nil is an empty Context.
func (c *Context) Clone() *Context {
	clone := &Context{}
	if c == nil {
		return clone
	}
	for key, v := range c.keys {
		v.list = append([]string(nil), v.list...)
		if clone.keys == nil {
			clone.keys = make(map[string]contextValue, len(c.keys))
		}
		clone.keys[key] = v
	}
	return clone
}

func (c *Context) put(key string, v contextValue) {
	if c.keys == nil {
		c.keys = make(map[string]contextValue)
	}
	c.keys[foldKey(key)] = v
}

// lookup takes a key that foldKey has been over.
func (c *Context) lookup(folded string) (contextValue, bool) {
	if c == nil {
		return contextValue{}, false
	}
	v, ok := c.keys[folded]
	return v, ok
}

// foldKey lower-cases the name of a condition key. No letter outside ASCII
// becomes one inside it: the Kelvin sign lower-cases to k, and a tag spelled
// with it must not pass for the tag that a policy names.
func foldKey(key string) string {
	if isASCII(key) {
		return strings.ToLower(key)
	}
	return strings.Map(func(r rune) rune {
		if l := unicode.ToLower(r); l >= utf8.RuneSelf || r < utf8.RuneSelf {
			return l
		}
		return r
	}, key)
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
