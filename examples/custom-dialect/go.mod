module github.com/lockstep-go/lockstep/examples/custom-dialect

go 1.26.0

require (
	github.com/lockstep-go/lockstep v0.0.0
	github.com/ncruces/go-sqlite3 v0.30.5
)

require (
	github.com/ncruces/julianday v1.0.0 // indirect
	github.com/tetratelabs/wazero v1.11.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
)

replace github.com/lockstep-go/lockstep => ../..
