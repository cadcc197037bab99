package broker

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"agentkeys/api"
	"agentkeys/auth"
	"agentkeys/identity"
	"agentkeys/token"
)

type AssumeRole struct {
	RoleARN     string
	SessionName string
	Policy      string
	Token       token.Secret
	Duration    time.Duration
}
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey token.Secret
	SessionToken    token.Secret
	ExpiresAt       time.Time
	RequestID       string
}
type STSError struct {
	Code, Message string
	Status        int
	RequestID     string
	Unknown       bool
	Attempts      int
}

func (e *STSError) Error() string { return e.Code + e.Message }

type Budgets struct{ PerAccount, PerGrant, PerNetwork int }

func (Budgets) check() error { return nil }

type budget struct{}

func (b *budget) take(key string, now time.Time) (time.Duration, bool) { return 0, true }
func network(s string) string                                          { return s }
func retryAfter(d time.Duration) string                                { return strconv.Itoa(1 + int(d/time.Second)) }

func decodeRaw[T any](c *call) (T, []byte, error) {
	var v T
	data, err := readBody(c)
	if err != nil {
		return v, nil, err
	}
	return v, data, json.Unmarshal(data, &v)
}
func callText(method, url string, body []byte) (string, error) { return method + url, nil }
func checkCall(text string, a api.CallAuth) (string, error) {
	lower, _ := identity.ParseAddress(a.Address)
	_, err := auth.RecoverAddress(text, a.Signature)
	return lower, err
}

var _ context.Context

func newBudgets(Budgets) budgets { return budgets{new(budget), new(budget), new(budget)} }

type STSConfig struct{ Region, Endpoint string }
type STS struct{}

func NewSTS(STSConfig) (*STS, error)                                     { return &STS{}, nil }
func (*STS) AssumeRole(context.Context, AssumeRole) (Credentials, error) { return Credentials{}, nil }
