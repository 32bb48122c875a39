//go:build race

package otelgostream_test

const raceEnabled = true
