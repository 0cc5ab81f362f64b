# `make help` lists what there is. Only Go and make are needed for run, build and test;
# -race (in check) also wants a C compiler.

GO       ?= go
FUZZTIME ?= 20s
BENCH    ?= .
HOSTS    ?= 10,30,100
RACE     ?= -race
# For all targets, so that build and test share what they have compiled.
export GOFLAGS ?= -trimpath
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# Run by `go run`, not `go tool`: as a tool it would put hundreds of modules into go.mod.
GOLANGCI = $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.DEFAULT_GOAL := help
.PHONY: help run build test check fmt vet lint cross test-race fuzz bench interop fleet fleet-model clients clients-all alerts schema schema-check clean catalog compare profile page page-shots fresh packages packages-check image

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## build, and start the daemon (CONFIG=file; without it: its own search, else built-in defaults)
	bin/proxyd run $(if $(CONFIG),-c $(CONFIG))

build: ## bin/proxyd: static, reproducible
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/proxyd ./cmd/proxyd

test: ## the tests
	$(GO) test -timeout 20m ./...

# The tests come last, so that the last lines but one are the test runner's own.
check: ## what must pass before a change lands, with the time of each stage
	@MAKE='$(MAKE)' bash .ci/stages fmt vet lint cross schema-check build test-race

fmt: ## no file that gofmt would change
	@files=$$(gofmt -l .) && if [ -n "$$files" ]; then echo "gofmt would change:"; echo "$$files"; exit 1; fi

vet: ## go vet
	$(GO) vet ./...

cross: ## go vet for the other systems
	GOOS=darwin $(GO) vet ./...
	GOOS=windows $(GO) vet ./...

lint: ## golangci-lint (the first time it is built, which takes minutes)
	$(GOLANGCI) run --allow-serial-runners ./...
	cd tools && $(GOLANGCI) run --allow-serial-runners ./...

test-race: ## the tests with the race detector
	$(GO) test $(RACE) -timeout 20m ./...

fuzz: ## every fuzz target for FUZZTIME (20s)
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			echo "== $$(dirname $$file) $$name"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$(dirname $$file); \
		done; \
	done

bench: ## the Go benchmarks, with allocations (BENCH=regexp)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

compare: ## proxyd beside other proxies on this machine (ROUNDS=5; about 25 minutes)
	bench/run.sh

profile: ## where set-up and messages spend their time and memory
	@mkdir -p bin
	$(GO) test ./e2e -run '^$$' -bench 'Setup|PingPong' -benchmem -benchtime 5s \
		-cpuprofile bin/cpu.pprof -memprofile bin/mem.pprof -memprofilerate 4096 -o bin/e2e.test
	$(GO) tool pprof -top -nodecount=25 bin/e2e.test bin/cpu.pprof
	$(GO) tool pprof -top -cum -nodecount=40 -focus 'proxyd/internal' bin/e2e.test bin/cpu.pprof
	$(GO) tool pprof -top -nodecount=25 -sample_index=alloc_objects bin/e2e.test bin/mem.pprof

interop: build ## real curl, tinyproxy, squid, microsocks and dante against bin/proxyd (Linux, root)
	GO='$(GO)' interop/run.sh

fleet: ## what a fleet shares by a real redis-server (Debian's package), on a machine that does nothing else
	GO='$(GO)' interop/fleet.sh

fleet-model: ## what a fleet costs its Redis, by a model with the real budgets and a real redis-server (HOSTS=10,30,100; about 8 minutes)
	FLEET=1 $(GO) test ./internal/fleet -run '^TestModel' -v -count 1 -timeout 1h -model $(HOSTS)

alerts: build ## the rules, and a real Prometheus and Alertmanager beside bin/proxyd (Debian's packages)
	GO='$(GO)' deploy/prometheus/check.sh

catalog: ## compare the catalogue of exchanges with the newest ccxt, for review (pip; SNAPSHOT=1 keeps what it names for the tests)
	tools/catalog/run.sh

clients: ## the client libraries against proxyd, as docs/clients.md shows (fetches them once; UPDATE=1 writes its tables; CLIENT=name)
	GO='$(GO)' interop/clients.sh

clients-all: ## clients, with Rust and Java too
	GO='$(GO)' CLIENTS_LANGUAGES='curl python node go rust java' interop/clients.sh

fresh: ## the commands of README.md one by one, and make test, on a fresh machine made by debootstrap (Debian or Ubuntu, root)
	GO='$(GO)' interop/fresh.sh

page: ## the page of the admin server in a real Chromium (Debian's package)
	GO='$(GO)' tools/page/run.sh

# What it fetches is kept in bin/.
AXE = axe-core@4.14.1
page-shots: ## check the page with axe-core, and write its pictures to docs/img (chromium, npm)
	@mkdir -p bin docs/img
	npm install --silent --no-save --ignore-scripts --prefix bin/axe $(AXE)
	$(GO) -C tools test -timeout 15m -count 1 -run Pictures ./page -shots $(CURDIR)/docs/img -axe $(CURDIR)/bin/axe/node_modules/axe-core/axe.min.js

schema: ## write internal/config/schema.json, configs/proxyd.schema.json and the key reference again from the types
	$(GO) generate ./...

schema-check: ## a JSON Schema validator and `check` agree on the examples and on the files below testdata
	$(GO) -C tools vet ./schema
	$(GO) -C tools test -count 1 ./schema

packages: ## dist/: what a release consists of: archives, .deb and .rpm, checksums, SBOMs (TARGETS=os/arch,…)
	$(GO) -C tools run ./dist --version $(VERSION) $(if $(TARGETS),--targets $(TARGETS))

packages-check: packages build ## packages, and the tests of what they hold (Debian or Ubuntu, root)
	GO='$(GO)' tools/dist/check.sh
	GO='$(GO)' deploy/packages/check.sh
	GO='$(GO)' deploy/check.sh

image: build ## a container image of bin/proxyd, by docker, podman or buildah (BUILDER)
	GO='$(GO)' deploy/image.sh

clean: ## remove what was built
	rm -rf bin dist
