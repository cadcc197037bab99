package federation

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestConfigValidate(t *testing.T) {
	with := func(change func(*Config)) Config {
		c := testConfig()
		change(&c)
		return c
	}
	issuer := func(s string) Config { return with(func(c *Config) { c.Issuer = s }) }
	bucket := func(s string) Config { return with(func(c *Config) { c.Bucket = s }) }
	prefix := func(s string) Config { return with(func(c *Config) { c.Prefix = s }) }
	tagKey := func(s string) Config { return with(func(c *Config) { c.TagKey = s }) }
	role := func(s string) Config { return with(func(c *Config) { c.Role = s }) }
	audience := func(s string) Config { return with(func(c *Config) { c.Audience = s }) }
	region := func(s string) Config { return with(func(c *Config) { c.Region = s }) }
	account := func(s string) Config { return with(func(c *Config) { c.Account = s }) }
	for _, test := range []struct {
		name string
		c    Config
		want string // part of the error; "" is valid
	}{
		{"reference", testConfig(), ""},
		{"issuer without path", issuer("https://broker.example.com"), ""},
		{"loopback issuer", issuer("http://127.0.0.1:8091"), ""},
		{"loopback name", issuer("http://localhost:8091"), ""},
		{"loopback v6", issuer("http://[::1]:8091"), ""},
		{"http", issuer("http://broker.example.com"), "issuer"},
		{"a name that only begins like loopback", issuer("http://127.0.0.1.example.com"), "issuer"},
		{"https with a port", issuer("https://broker.example.com:8443"), "port"},
		{"https with an empty port", issuer("https://broker.example.com:"), "port"},
		{"trailing slash", issuer("https://broker.example.com/"), "slash"},
		{"double slash", issuer("https://broker.example.com//a"), "path"},
		{"dots in the path", issuer("https://broker.example.com/../a"), "path"},
		{"encoded path", issuer("https://broker.example.com/a%2fb"), "path"},
		{"query", issuer("https://broker.example.com?a=1"), "query"},
		{"empty query", issuer("https://broker.example.com?"), "query"},
		{"fragment", issuer("https://broker.example.com#"), "fragment"},
		{"user", issuer("https://u:p@broker.example.com"), "user"},
		{"capitals", issuer("https://Broker.example.com"), "lower case"},
		{"wildcard host", issuer("https://*.example.com"), "issuer"},
		{"no scheme", issuer("broker.example.com"), "issuer"},
		{"empty issuer", issuer(""), "issuer"},
		{"short account", account("11112222333"), "account"},
		{"letters in the account", account("11112222333a"), "account"},
		{"region", region("eu"), "region"},
		{"region with a wildcard", region("eu-*-1"), "region"},
		{"govcloud", region("us-gov-west-1"), ""},
		{"role ARN", role("arn:aws:iam::111122223333:role/r"), "role"},
		{"role with a wildcard", role("r*"), "role"},
		{"long role", role(strings.Repeat("r", 65)), "role"},
		{"bucket with capitals", bucket("Data"), "bucket"},
		{"bucket with an underscore", bucket("my_data"), "bucket"},
		{"short bucket", bucket("ab"), "bucket"},
		{"long bucket", bucket(strings.Repeat("b", 64)), "bucket"},
		{"bucket ends in a hyphen", bucket("data-"), "bucket"},
		{"bucket as an address", bucket("192.168.5.4"), "IP"},
		{"two dots", bucket("my..data"), "dots"},
		{"alias", bucket("data-s3alias"), "-s3alias"},
		{"punycode", bucket("xn--data"), "xn--"},
		{"prefix with a slash at its end", prefix("bots/"), "slash"},
		{"prefix with a slash at its start", prefix("/bots"), "slash"},
		{"deep prefix", prefix("a/b/c"), ""},
		{"two slashes", prefix("a//b"), "slash"},
		{"dots", prefix("a/../b"), "segment"},
		{"star", prefix("bots*"), "wildcard"},
		{"question mark", prefix("bot?"), "wildcard"},
		{"variable", prefix("${aws:username}"), "wildcard"},
		{"empty prefix", prefix(""), "prefix"},
		{"tag key of AWS", tagKey("AWS:wallet"), "aws:"},
		{"tag key with a brace", tagKey("wallet}"), "tag key"},
		{"tag key with a default", tagKey("wallet, 'shared'"), "tag key"},
		{"empty tag key", tagKey(""), "tag key"},
		{"long tag key", tagKey(strings.Repeat("k", 129)), "tag key"},
		{"audience with a variable", audience("${aws:username}"), "audience"},
		{"audience with a star", audience("sts*"), "audience"},
		{"audience with a question mark", audience("sts?"), "audience"},
		{"audience with a space", audience("a b"), "audience"},
		{"audience as a URL", audience("https://sts.example.com/x"), ""},
		{"empty audience", audience(""), "audience"},
	} {
		err := test.c.Validate()
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: error %v, want one about %q", test.name, err, test.want)
		}
	}
}

func TestConfigValidateNamesEveryField(t *testing.T) {
	err := Config{}.Validate()
	if err == nil {
		t.Fatal("an empty configuration is valid")
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 8 {
		t.Errorf("%d lines, want one for each of 8 fields:\n%v", len(lines), err)
	}
}

func TestConfigNames(t *testing.T) {
	c := testConfig()
	for got, want := range map[string]string{
		c.ProviderARN():         "arn:aws:iam::111122223333:oidc-provider/broker.example.com/oidc",
		c.RoleARN():             "arn:aws:iam::111122223333:role/agentkeys-data-role",
		c.BucketARN():           "arn:aws:s3:::agentkeys-data",
		c.TenantPrefix(walletA): "bots/" + walletA + "/",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	c.Region = "us-gov-west-1"
	if got, want := c.RoleARN(), "arn:aws-us-gov:iam::111122223333:role/agentkeys-data-role"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestConfigJSON(t *testing.T) {
	got, err := json.Marshal(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"issuer":"https://broker.example.com/oidc","account":"111122223333","region":"eu-central-1",` +
		`"role":"agentkeys-data-role","bucket":"agentkeys-data","prefix":"bots","tag_key":"agentkeys_user_wallet",` +
		`"audience":"sts.amazonaws.com"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
