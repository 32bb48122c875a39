module github.com/gostream/gostream/cli

go 1.26.0

require (
	github.com/gostream/gostream v0.0.0
	github.com/gostream/gostream/asyncapi v0.0.0
	github.com/lmittmann/tint v1.2.1
	github.com/spf13/cobra v1.10.2
	github.com/spf13/pflag v1.0.9
	golang.org/x/sys v0.50.0
	golang.org/x/term v0.48.0
)

require (
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/swaggest/jsonschema-go v0.3.74 // indirect
	github.com/swaggest/refl v1.3.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)

replace github.com/gostream/gostream => ../

replace github.com/gostream/gostream/asyncapi => ../asyncapi
