package api

// Paths of the broker. Those of the issuer are fixed by OpenID Connect
// Discovery 1.0, section 4.
const (
	PathHealth  = "/healthz"
	PathReady   = "/readyz"
	PathMetrics = "/metrics" // admin listener only
	PathOpenAPI = "/openapi.json"
	PathRunbook = "/docs/runbook" // what each error and each check means

	PathDiscovery = "/.well-known/openid-configuration"
	PathJWKS      = "/.well-known/jwks.json"

	PathWalletStart  = "/v1/auth/wallet/start"
	PathWalletVerify = "/v1/auth/wallet/verify"
	PathMintOIDC     = "/v1/mint-oidc-jwt"
	PathMintAWS      = "/v1/mint-aws-creds"

	PathGrantCreate = "/v1/grant/create"
	PathGrantList   = "/v1/grant/list"
	PathGrantRevoke = "/v1/grant/revoke"

	PathAuditEntries     = "/v1/audit/entries"
	PathAuditCheckpoint  = "/v1/audit/checkpoint"
	PathAuditProof       = "/v1/audit/proof/" // and the id of a record
	PathAuditConsistency = "/v1/audit/consistency"
)
