module cutover/scripts/bench

go 1.26.0

toolchain go1.26.9

replace cutover => ../..

require (
	cutover v0.0.0-00010101000000-000000000000
	github.com/mattn/go-sqlite3 v1.14.52
)

require (
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)
