package api

// Discovery is the provider metadata of OpenID Connect Discovery 1.0, section
// 3, as far as AWS STS reads it.
type Discovery struct {
	Issuer                 string   `json:"issuer"`
	JWKSURI                string   `json:"jwks_uri"`
	ResponseTypes          []string `json:"response_types_supported"`
	SubjectTypes           []string `json:"subject_types_supported"`
	SigningAlgorithms      []string `json:"id_token_signing_alg_values_supported"`
	Scopes                 []string `json:"scopes_supported"`
	TokenEndpointAuthTypes []string `json:"token_endpoint_auth_methods_supported"`
	Claims                 []string `json:"claims_supported"`
}

// WalletStartRequest asks for a sign-in challenge for an Ethereum address.
type WalletStartRequest struct {
	Address string `json:"address"`
	ChainID int64  `json:"chain_id"`
}

// WalletStartResponse carries the EIP-4361 message that the wallet signs as it
// stands.
type WalletStartResponse struct {
	RequestID        string `json:"request_id"`
	SIWEMessage      string `json:"siwe_message"`
	Nonce            string `json:"nonce"`
	ExpiresInSeconds int64  `json:"expires_in_seconds"`
	ExpiresAtISO     string `json:"expires_at_iso"` // RFC 3339
}

// WalletVerifyRequest answers a challenge with an EIP-191 signature, 0x and
// 130 hexadecimal digits.
type WalletVerifyRequest struct {
	RequestID string `json:"request_id"`
	Signature string `json:"signature"`
}

// Session is what every way of signing in ends in.
type Session struct {
	SessionJWT    string `json:"session_jwt"`
	SessionJWTKid string `json:"session_jwt_kid"`
	ExpiresAt     int64  `json:"expires_at"`
	OmniAccount   string `json:"omni_account"`
	WalletAddress string `json:"wallet_address,omitempty"`
	IdentityType  string `json:"identity_type"`
	IdentityValue string `json:"identity_value"`
}

// MintOIDCResponse carries a web identity token for AWS STS. Wallet is the
// tenant that the token is tagged with.
type MintOIDCResponse struct {
	JWT        string `json:"jwt"`
	Wallet     string `json:"wallet"`
	Expiration int64  `json:"expiration"`
}

// Readiness states of the broker and of its checks.
const (
	StatusReady    = "ready"
	StatusDegraded = "degraded"
	StatusUnready  = "unready"
)

// Readiness says whether the broker can do its work, and what holds it up.
type Readiness struct {
	Status string  `json:"status"`
	Checks []Check `json:"checks"`
}

// Check is the state of one thing the broker depends on. Docs points at the
// paragraph of the run-book that says what to do.
type Check struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
	Since  int64  `json:"since"`
	Docs   string `json:"docs"`
}
