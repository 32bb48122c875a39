//go:build race

package gostream_test

const raceEnabled = true
