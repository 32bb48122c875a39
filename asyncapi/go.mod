module github.com/gostream/gostream/asyncapi

go 1.25.0

require (
	github.com/gostream/gostream v0.0.0
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3
	github.com/swaggest/jsonschema-go v0.3.74
	go.yaml.in/yaml/v3 v3.0.5
)

require (
	github.com/swaggest/refl v1.3.0 // indirect
	golang.org/x/text v0.14.0 // indirect
)

replace github.com/gostream/gostream => ../
