// The pins of the Go programs in ../*.txtar; built_test.go writes them.
module clients

go 1.26.0

require (
	github.com/coder/websocket v1.8.15
	github.com/gobwas/ws v1.5.0
	github.com/gorilla/websocket v1.5.3
	golang.org/x/net v0.62.0
)

require github.com/gobwas/httphead v0.1.0 // indirect
