package federation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Save writes the files into a folder, which is made where it is not there and
// must be empty: a file of an earlier account would be taken for one of this. The
// configuration comes last, so that ReadAccount does not read half a folder.
func (f *Files) Save(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("saving the account: %w", err)
	}
	entries, err := os.ReadDir(dir)
	switch {
	case err != nil:
		return fmt.Errorf("saving the account: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("saving the account: want an empty folder, %s holds %q", dir, entries[0].Name())
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(f.content)), func(name string) bool { return name == fileConfig })
	for _, name := range append(names, fileConfig) {
		if err := os.WriteFile(filepath.Join(dir, name), f.content[name], 0o600); err != nil {
			return fmt.Errorf("saving the account: %w", err)
		}
	}
	return nil
}

// cliJSON writes an answer of the SDK as the AWS CLI prints it: without the
// members that have no value, and with IAM's percent-encoded policy documents as
// the JSON they are. A document that is no JSON stays as it came.
func cliJSON(answer any) ([]byte, error) {
	data, err := plainJSON(answer)
	if err != nil {
		return nil, err
	}
	var tree any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		return nil, err
	}
	return plainJSON(asCLI(tree))
}

// plainJSON is JSON for people too: indented, and < > & as they are.
func plainJSON(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetIndent("", "    ")
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return out.Bytes(), err
}

func asCLI(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = asCLI(v[i])
		}
	case map[string]any:
		for name, member := range v {
			text, isText := member.(string)
			switch {
			case member == nil || name == "ResultMetadata":
				delete(v, name)
			case isText && slices.Contains(documentMembers, name):
				v[name] = documentJSON(text)
			default:
				v[name] = asCLI(member)
			}
		}
	}
	return v
}

// documentMembers are the members of iam.json that hold policy documents. A
// bucket's and an access point's Policy is text in the CLI's output too.
var documentMembers = []string{"AssumeRolePolicyDocument", "PolicyDocument", "Document"}

// documentJSON is the document itself where it is a JSON object, byte for byte
// but for the space between its parts, so that members that come twice survive.
func documentJSON(text string) any {
	plain, err := plainDocument(text)
	if err != nil || !json.Valid([]byte(plain)) || plain == "" || plain[0] != '{' {
		return text
	}
	return json.RawMessage(plain)
}
