package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/mod/sumdb/note"
)

// The values of Config.AuditPolicy.
const (
	DualStrict    = "dual_strict"    // an answer leaves when every anchor has its record
	SQLitePrimary = "sqlite_primary" // when the database has it
)

const (
	anchorSQLite      = "sqlite"
	anchorFile        = "file"
	anchorCheckpoints = "checkpoints"
)

// anchors gives the names also where one of them is wrong, so that checkTogether
// does not miss any.
func anchors(v string) ([]string, error) {
	names, err := list(v)
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		if err := oneOf(name, anchorSQLite, anchorFile, anchorCheckpoints); err != nil {
			return names, fmt.Errorf("%w, got %q", err, name)
		}
		if slices.Contains(names[:i], name) {
			return names, fmt.Errorf("want each anchor once, got %q twice", name)
		}
	}
	if !slices.Contains(names, anchorSQLite) {
		return names, fmt.Errorf("want %s among them: the database always holds the record", anchorSQLite)
	}
	return names, nil
}

// checkAnchors wants a file for every anchor that needs one and no others, and no
// file twice.
func (c *Config) checkAnchors() (errs []error) {
	for _, v := range []struct{ anchor, name, path string }{
		{anchorFile, "BROKER_AUDIT_ANCHOR_FILE", c.AnchorFile},
		{anchorCheckpoints, "BROKER_AUDIT_CHECKPOINTS_FILE", c.CheckpointsFile},
	} {
		switch wanted := slices.Contains(c.Anchors, v.anchor); {
		case wanted && v.path == "":
			errs = append(errs, fmt.Errorf("%s is not set, and BROKER_AUDIT_ANCHORS names the anchor %s", v.name, v.anchor))
		case !wanted && v.path != "":
			errs = append(errs, fmt.Errorf("%s is set, and BROKER_AUDIT_ANCHORS does not name the anchor %s", v.name, v.anchor))
		}
	}
	names := map[string]string{}
	for _, v := range []struct{ name, path string }{
		{"BROKER_AUDIT_ANCHOR_FILE", c.AnchorFile},
		{"BROKER_AUDIT_CHECKPOINTS_FILE", c.CheckpointsFile},
		{"BROKER_AUDIT_HEADS_FILE", cmp.Or(c.HeadsFile, filepath.Join(c.DataDir, "heads"))},
	} {
		path := filepath.Clean(v.path)
		switch other := names[path]; {
		case v.path == "":
		case other != "":
			errs = append(errs, fmt.Errorf("%s and %s: want two files, got %q twice", other, v.name, path))
		default:
			names[path] = v.name
		}
	}
	return errs
}

// verifierKeys wants each key whole: name, hash and key belong together.
func verifierKeys(v string) ([]string, error) {
	keys, err := list(v)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		if _, err := note.NewVerifier(key); err != nil || strings.ContainsFunc(key, unicode.IsSpace) {
			return nil, fmt.Errorf("want verifier keys such as agentkeys keygen --show prints (name+hash+base64), got %q", key)
		}
		if slices.Contains(keys[:i], key) {
			return nil, fmt.Errorf("want each verifier key once, got %q twice", key)
		}
	}
	return keys, nil
}

// The identities in the one form that identity.Identity.Check admits, whose longest
// value is 255 bytes. An address without an @ could be nobody's.
var auditorForms = map[string]*regexp.Regexp{
	"evm":           regexp.MustCompile(`^0x[0-9a-f]{40}$`),
	"email":         regexp.MustCompile(`^[^\x00-\x20\x7fA-Z@]+@[^\x00-\x20\x7fA-Z@]+$`),
	"oauth2_google": regexp.MustCompile(`^[^\x00-\x20\x7f]+$`),
}

const maxIdentity = 255

func auditors(v string) ([]string, error) {
	names, err := list(v)
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		kind, value, _ := strings.Cut(name, ":")
		form := auditorForms[kind]
		if form == nil || len(value) > maxIdentity || !form.MatchString(value) {
			return nil, fmt.Errorf("want evm:0x and 40 of 0-9 a-f, email:ADDRESS in lower case or oauth2_google:SUB, got %q", name)
		}
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("want each auditor once, got %q twice", name)
		}
	}
	return names, nil
}

// retention is whole days, or for ever.
func retention(c *Config, v string) error {
	if v == "" {
		return nil
	}
	return days(1, 36600, func(c *Config) *time.Duration { return &c.AuditRetention })(c, v)
}
