module github.com/gostream/gostream

go 1.25.0
