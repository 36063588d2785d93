# One Go program and its pages. `make help` lists the targets.
GO      ?= go
BIN     := bin/panoptes
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X panoptes/internal/cli.version=$(VERSION)
AGENT_LDFLAGS := -s -w -X panoptes/internal/agentcli.version=$(VERSION)
AGENTS  := linux-amd64 linux-arm64 linux-armv7 darwin-amd64 darwin-arm64 windows-amd64 freebsd-amd64
HERE    := $(shell $(GO) env GOOS)-$(subst arm,armv7,$(subst arm64,aarch64,$(shell $(GO) env GOARCH)))
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
export GOFLAGS := -buildvcs=false

.PHONY: help build agents ui run demo test test-go test-ui test-e2e test-fault fault growing conformance race lint bench fuzz clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | column -t -s "$$(printf '\t')"

build: agent-$(subst aarch64,arm64,$(HERE)) ## the binary, with whatever pages are in ui/dist, and the agent of this platform
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/panoptes

agents: $(addprefix agent-,$(AGENTS)) ## the agent for every platform, into bin/agents, where servers offer them

agent-%: # one of them: agent-linux-arm64
	@mkdir -p bin/agents
	CGO_ENABLED=0 GOOS=$(word 1,$(subst -, ,$*)) GOARCH=$(patsubst armv7,arm,$(word 2,$(subst -, ,$*))) GOARM=7 \
		$(GO) build -trimpath -ldflags '$(AGENT_LDFLAGS)' -o bin/agents/panoptes-agent-$* ./cmd/panoptes-agent
	@echo '$(VERSION)' >bin/agents/VERSION

ui: ## the pages (skipped when nothing has changed)
	@./ui/build.sh

run: ui build ## build all and start a server that watches a sample set-up
	./$(BIN) server --sample

demo: ui build ## three servers and moody targets in a scratch directory, to see them work and to break them
	./$(BIN) demo

test: ui build lint test-go test-ui test-e2e test-fault ## everything, installing what it needs

test-go: ## unit, conformance and fault tests
	$(GO) test -timeout 20m ./...

test-ui: ## lint, types and tests of the pages
	cd ui && npm run lint && npm run typecheck && npm test

test-e2e: ## the real binary against real targets, and journeys in Chromium
	./test/prepare.sh
	PANOPTES_BIN=$(CURDIR)/$(BIN) $(GO) test -count=1 -timeout 20m -v -tags e2e $$($(GO) list -tags e2e ./test/... | grep -vE '/(growing|promql|promtool)$$')
	PANOPTES_BIN=$(CURDIR)/$(BIN) $(GO) test -count=1 -timeout 5m -v -tags e2e -run '^TestCluster' ./test/promql
	$(GO) test -count=1 -timeout 10m -v -tags e2e -run '^TestSameAsNodeExporter$$' ./internal/agent/collect

test-fault: ## the short rows of the fault matrix: servers killed, cut off, without power
	./test/prepare.sh
	PANOPTES_BIN=$(CURDIR)/$(BIN) $(GO) test -count=1 -timeout 15m -v -tags fault -short ./test/fault \
		-run '^Test(Mechanism.*|Single|Kill1|PowerCutAll|Split|RegionUplink|DownInOneRegion|JoinLeave)$$'

conformance: ui ## against real Prometheus and Pushgateway, built first: remote write, queries (three servers, too), Grafana, federation, pushes, unit tests of rules
	PANOPTES_CONFORMANCE=1 $(GO) test -p 1 -count=1 -timeout 60m -v -tags e2e $$($(GO) list -tags e2e ./test/... | grep -E '/(remotewrite|promql|promtool)$$')

growing: ## against real Prometheus and Thanos, which are built first (10 minutes the first time)
	$(GO) test -count=1 -timeout 60m -v -tags e2e ./test/growing

fault: build ## all rows of the fault matrix (more with FAULT='-fault.seed 7 -fault.duration 1h -run TestRandomFaults')
	./test/prepare.sh
	PANOPTES_BIN=$(CURDIR)/$(BIN) $(GO) test -count=1 -timeout 180m -v -tags fault ./test/fault $(FAULT)

race: ## the Go tests under the race detector
	$(GO) test -race -timeout 40m ./internal/...

lint: ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l cmd internal test ui/*.go bench 2>/dev/null)" || { echo "not gofmt-ed:"; gofmt -l cmd internal test ui/*.go bench; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags 'e2e fault' ./test/...
	$(GO) run $(STATICCHECK) ./...

bench: build ## against other programs, side by side in one run
	$(GO) run ./bench

fuzz: ## every fuzz target for FUZZTIME (default 10s)
	./test/fuzz.sh $(or $(FUZZTIME),10s)

clean: ## remove what was built
	rm -rf bin ui/dist/* ui/node_modules
