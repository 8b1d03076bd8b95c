# make test is everything; go test ./... is the Go half. make soak is what takes long.

STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build test check go cross e2e browser conformance soak bench

build:
	CGO_ENABLED=0 go build -trimpath -o bin/openleash ./cmd/openleash

test: check cross go browser conformance e2e

check:
	test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	go vet -tags e2e ./e2e
	go vet -tags browser ./portal
	cd conformance && go vet ./...
	$(STATICCHECK) ./...

# The detector makes SQLite, which is translated from C, six times slower. It looks at
# our code alone: at what calls SQLite too, not at what goes on inside.
RACE = -race -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/libc=-race=false

# What is large, or measured: ten times slower under the race detector.
LARGE = ^Test(Hostile(Terminal|JSON|Page|Changes|Lists)|Long|WireSizes|BytesOfAnAgentAreBounded|UnsignedFlood|DecideAgreesWithTrace|Shapes|ReloadDoesNotStall)$$

go: # many only wait
	go test $(RACE) -parallel 8 -timeout 20m -skip '$(LARGE)' ./...
	go test -run '$(LARGE)' ./...
	cd conformance && go test .

# One static binary for each system, without cgo.
cross:
	for target in linux/amd64 darwin/arm64 windows/amd64; do \
	  echo "build $$target"; export CGO_ENABLED=0 GOOS=$${target%/*} GOARCH=$${target#*/}; \
	  go build -o /dev/null ./cmd/openleash && go vet ./... || exit 1; \
	done

# The pages in a real browser.
browser:
	./scripts/chromium
	go test -tags browser -count=1 -run Browser ./portal

# Real hosts and real servers, pinned in e2e/package-lock.json (1 GB installed), and the
# public Python SDK, pinned in e2e/requirements.txt.
e2e: e2e/node_modules/.package-lock.json e2e/venv/installed
	go test -tags e2e -count=1 -timeout 15m -parallel 16 ./e2e # many only wait; e2e/ways_test.go says how many work

e2e/node_modules/.package-lock.json: e2e/package-lock.json
	cd e2e && npm ci

# Two versions: the older one stands beside, with the same below it.
e2e/venv/installed: e2e/requirements.txt
	python3 -m venv --clear e2e/venv
	e2e/venv/bin/pip install --quiet --requirement e2e/requirements.txt
	e2e/venv/bin/pip install --quiet --no-deps --target e2e/venv/openleash-0.2.0 openleash-sdk==0.2.0
	touch e2e/venv/installed

# The official MCP conformance suite, directly and through OpenLeash.
conformance:
	conformance/run

# Minutes-long holds, hundreds of kills, hundreds of schedules of races.
soak:
	go test -tags soak -count=1 -timeout 60m -run Soak ./...

bench:
	cd bench && go run .
