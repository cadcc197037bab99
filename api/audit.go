package api

// How an entry of the audit log is shown, and so which form its Line has.
const (
	ShownFull   = "full"   // every member
	ShownInPart = "part"   // of somebody else in the caller's prefix: without the members that say who and from where
	ShownErased = "erased" // the personal members were erased from the log
)

// The values of AuditEntries.Scope.
const (
	AuditScopeOwn = "own" // what concerns the caller
	AuditScopeAll = "all" // an auditor's
)

// AuditEntry is a record of the audit log in the eyes of the caller. Members that do
// not apply, and those that are not shown, are "".
type AuditEntry struct {
	ID      string `json:"id"`
	Place   int64  `json:"place"` // in the log, from 1
	Time    int64  `json:"time"`  // Line has the milliseconds
	Shown   string `json:"shown"`
	Action  string `json:"action"`
	Status  string `json:"status"`  // by now: pending, confirmed, failed or quarantined
	Outcome string `json:"outcome"` // when it was recorded
	Reason  string `json:"reason"`
	Detail  string `json:"detail"`

	OmniAccount   string `json:"omni_account"`
	IdentityType  string `json:"identity_type"`
	IdentityValue string `json:"identity_value"`
	Wallet        string `json:"wallet"`
	Source        string `json:"source"`
	Tenant        string `json:"tenant"`
	Agent         string `json:"agent"`
	Service       string `json:"service"`
	ScopePath     string `json:"scope_path"`
	GrantID       string `json:"grant_id"`

	KeyID        string `json:"key_id"`
	TokenID      string `json:"token_id"`
	CredentialID string `json:"credential_id"`
	RequestID    string `json:"request_id"`
	Settles      string `json:"settles"` // the ID of the record of intent

	Hash string `json:"hash"` // of the leaf, as the proof has it
	// Line is the entry as exports have it, byte for byte, with which the entry can be
	// held against a proof: {"place":…,"leaf":{…},"person":{…},"salt":"…","hash":"…"}.
	// Where Shown is not full, it has neither person nor salt.
	Line string `json:"line"`
}

// AuditEntries is a page of entries. A page may be shorter than was asked for, even
// empty, while More is true. Cursor is where to go on; in ascending order it is there
// on the last page too, for whoever follows the log.
type AuditEntries struct {
	Entries []AuditEntry `json:"entries"`
	Scope   string       `json:"scope"`
	More    bool         `json:"more"`
	Cursor  string       `json:"cursor"`
}

// AuditProof proves that the leaf of a record is in the tree of the checkpoint
// (RFC 6962, section 2.1.1). Hashes are in hexadecimal.
type AuditProof struct {
	Origin     string   `json:"origin"`
	Index      int64    `json:"index"` // of the leaf, from 0
	Size       int64    `json:"size"`  // of the tree
	LeafHash   string   `json:"leaf_hash"`
	Hashes     []string `json:"hashes"`
	Checkpoint string   `json:"checkpoint"` // signed note (C2SP tlog-checkpoint)
}

// AuditConsistency proves that the tree of size To begins with the tree of size From
// (RFC 6962, section 2.1.2). Checkpoint is the present one, which may be of a larger
// tree than To.
type AuditConsistency struct {
	Origin     string   `json:"origin"`
	From       int64    `json:"from"`
	To         int64    `json:"to"`
	Hashes     []string `json:"hashes"`
	Checkpoint string   `json:"checkpoint"`
}
