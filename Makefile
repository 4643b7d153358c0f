# The two commands of README are `make up` and `make test`; each sets up its machine by itself.
KALEIDO = bin/kaleido

.PHONY: all up test test-matrix unit lint generate clean help setup

all: ## build bin/kaleido
	go build -o $(KALEIDO) ./cmd/kaleido

setup: ## install the packages that are missing on this machine
	scripts/setup

up: setup ## from nothing to a booted kernel
	$(KALEIDO) up $(ARGS)

test: ## all tests, with real kernels in real virtual machines
	scripts/setup -t
	scripts/test

test-matrix: ## the exercises on 6.12 and on a debug kernel, restored and booted; their wrong solutions
	scripts/setup -m
	scripts/test-matrix

unit: ## the tests that need no kernel and no virtual machine
	go test ./...

lint: ## what reviewers should not have to say
	scripts/lint

generate: ## files made from other files; a test fails when they are stale
	go generate ./...

clean: ## remove what was built here; the cache stays (see kaleido cache prune)
	rm -rf bin .kaleido

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14
