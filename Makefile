# holdfast: every command that a developer or CI needs. `make help` lists them.

GO          ?= go
BIN         := bin/holdfast
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
TESTFLAGS   ?=
# Packages side by side: the whole-cluster tests start several processes each.
PARALLEL    ?= 2

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/holdfast
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/holdfast

.PHONY: demo
demo: build ## Run the main job on a three-node cluster and kill its leader
	@./$(BIN) demo

.PHONY: test
test: deps ## Install what the tests need and run all of them with the race detector
	$(GO) test -race -p $(PARALLEL) -shuffle=on -timeout 20m $(TESTFLAGS) ./...

.PHONY: deps
deps: ## Install the Debian packages that the tests use, where apt-get and root are there
	@.ci/deps

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, import rules, file sizes
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) test -count=1 -run 'TestImportRules|TestImportProblem|TestFileSizes|TestTopLevelFolders' .

.PHONY: bench
bench: build ## Measure the figures of docs/benchmarks.md
	@./.ci/bench

.PHONY: bench-sandbox
bench-sandbox: build ## Measure the sandbox beside bubblewrap, crun and runc
	@./.ci/bench -run '^(isolation|sandbox)$$'

.PHONY: chaos
chaos: build ## Break clusters in every shipped way, for an hour
	@.ci/chaos all

.PHONY: chaos-ci
chaos-ci: build ## Break clusters in five ways, in a few minutes
	@.ci/chaos ci

.PHONY: fuzz
fuzz: ## Run every fuzz target for 20 seconds
	@.ci/fuzz 20s

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin
