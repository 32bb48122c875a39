module github.com/gostream/gostream/asyncapi/internal/withbrokers

go 1.26.0

require (
	github.com/gostream/gostream v0.0.0
	github.com/gostream/gostream/asyncapi v0.0.0
	github.com/gostream/gostream/brokers/kafka v0.0.0
	github.com/gostream/gostream/brokers/nats v0.0.0
)

require (
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/nats-io/nats.go v1.55.0 // indirect
	github.com/nats-io/nkeys v0.4.16 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	github.com/pierrec/lz4/v4 v4.1.33 // indirect
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // indirect
	github.com/swaggest/jsonschema-go v0.3.74 // indirect
	github.com/swaggest/refl v1.3.0 // indirect
	github.com/twmb/franz-go v1.22.2 // indirect
	github.com/twmb/franz-go/pkg/kadm v1.19.0 // indirect
	github.com/twmb/franz-go/pkg/kmsg v1.15.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace github.com/gostream/gostream => ../../../

replace github.com/gostream/gostream/asyncapi => ../../

replace github.com/gostream/gostream/brokers/kafka => ../../../brokers/kafka

replace github.com/gostream/gostream/brokers/nats => ../../../brokers/nats
