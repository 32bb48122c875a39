module github.com/gostream/gostream/codec

go 1.26.0

require (
	github.com/fxamacker/cbor/v2 v2.10.0
	github.com/gostream/gostream v0.0.0
	github.com/shamaton/msgpack/v3 v3.1.0
	google.golang.org/protobuf v1.36.12
)

require github.com/x448/float16 v0.8.4 // indirect

replace github.com/gostream/gostream => ../
