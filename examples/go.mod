module github.com/gostream/gostream/examples

go 1.25.0

require github.com/gostream/gostream v0.0.0

replace github.com/gostream/gostream => ../
