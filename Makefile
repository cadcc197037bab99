# make test    installs what the tests need and is missing, then runs everything with the race detector
# make lint    gofmt, go vet, staticcheck, and govulncheck where a database is at hand
# make bench   rates and ratios, beside this machine's bare cryptography
# make fuzz    every fuzz target for FUZZTIME inputs each

GO       ?= go
FUZZTIME ?= 20000x
TOOL      = $(GO) tool -modfile=tools.mod

# SQLite, translated from C, and the arithmetic of the curve are left out of the race detector's
# watch: they start no goroutine, what calls them is watched, and the tests take half the time.
UNWATCHED = -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=github.com/decred/dcrd/dcrec/secp256k1/v4=-race=false

.PHONY: test build lint bench fuzz need-aws need-cc need-strace need-sqlite3 need-radosgw

test: need-aws need-cc need-strace need-sqlite3 need-radosgw
	$(GO) test -race $(UNWATCHED) -parallel 4 -timeout 25m ./...

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o agentkeys ./cmd/agentkeys

lint:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not formatted: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	@if [ -n "$$GOVULNDB" ]; then $(TOOL) govulncheck -db "$$GOVULNDB" ./...; \
	else echo "govulncheck: NOT RUN: it needs a vulnerability database; set GOVULNDB to one, such as file:///srv/vulndb"; fi

bench:
	$(GO) run ./bench
	$(GO) test ./broker -run '^$$' -bench 'MintAWS(OverBare|MillionGrants)' -benchtime 12x

fuzz:
	@set -e; for package in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	    echo "$$package $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$package; \
	  done; done

# The AWS CLI drives the local AWS in the tests.
need-aws:
	@command -v aws >/dev/null || { sudo=$$(command -v sudo || true); \
	  $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq awscli; }
	@aws --version

# The queries of docs/audit.md are run with SQLite's own shell. Where there is none the driver runs them alone.
need-sqlite3:
	@if command -v sqlite3 >/dev/null; then sqlite3 --version; \
	elif ! command -v apt-get >/dev/null; then echo "TestAuditPageQueries: NOT with sqlite3: it is not here, and there is no apt-get to install it"; \
	else sudo=$$(command -v sudo || true); $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive \
	  apt-get install -y -qq --no-install-recommends sqlite3 >/dev/null && sqlite3 --version; fi

# TestProveRadosgw runs Ceph's RADOS gateway: 69 MB of packages, 265 MB on the disk, half a minute. Where there is
# no apt-get the test is skipped; AGENTKEYS_SKIP=radosgw skips it anywhere.
need-radosgw:
	@if [ "$$AGENTKEYS_SKIP" = radosgw ]; then echo "TestProveRadosgw: NOT RUN: AGENTKEYS_SKIP names radosgw"; \
	elif { command -v radosgw && command -v ceph-mon && command -v ceph-osd && command -v ceph; } >/dev/null; then radosgw --version; \
	elif ! command -v apt-get >/dev/null; then echo "TestProveRadosgw: NOT RUN: no radosgw here, and no apt-get to install it"; \
	else sudo=$$(command -v sudo || true); $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive \
	  apt-get install -y -qq --no-install-recommends radosgw ceph-mon ceph-osd ceph-common >/dev/null && radosgw --version; fi

# The race detector needs a C compiler.
need-cc:
	@command -v gcc >/dev/null || { sudo=$$(command -v sudo || true); \
	  $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gcc libc6-dev; }

# Faults at the level of system calls are injected by it.
need-strace:
	@command -v strace >/dev/null || { sudo=$$(command -v sudo || true); \
	  $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq strace; }
