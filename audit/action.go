package audit

// The actions that records name. docs/audit-events.md says of each when it is
// recorded and with which outcomes; a test holds the page against this list.
const (
	ActionSignInStart  = "auth.wallet.start"
	ActionSignInVerify = "auth.wallet.verify"

	ActionMintOIDC = "mint.oidc_jwt"
	ActionMintAWS  = "mint.aws_credentials"

	ActionGrantCreate = "grant.create"
	ActionGrantList   = "grant.list"
	ActionGrantRevoke = "grant.revoke"

	ActionRefusalsSummarised = "refusals.summarised"

	ActionBrokerStarted  = "broker.started"
	ActionBrokerStopped  = "broker.stopped"
	ActionConfigLoaded   = "config.loaded"
	ActionConfigChanged  = "config.changed"
	ActionKeyLoaded      = "key.loaded"
	ActionKeyAdded       = "key.added"
	ActionKeyRetired     = "key.retired"
	ActionStoreRecovered = "store.recovered"

	ActionRead   = "audit.read"   // of records over HTTP
	ActionErased = "audit.erased" // Detail has records=COUNT: so many records before it were erased
	ActionPruned = "audit.pruned" // Detail has through=PLACE: the records up to there are gone

	ActionRestored = "audit.restored" // Detail is the note of a Restore
)
