package asyncapi

import (
	"encoding/json"
	"math/big"
	"strconv"
)

// compareNumbers returns -1, 0 or 1. Numbers that fit are compared exactly, those with an
// exponent out of all proportion as far as a float64 goes.
func compareNumbers(a, b json.Number) int {
	if a == b {
		return 0
	}
	x, okX := rational(a)
	y, okY := rational(b)
	if okX && okY {
		return x.Cmp(y)
	}
	fx, _ := strconv.ParseFloat(string(a), 64)
	fy, _ := strconv.ParseFloat(string(b), 64)
	switch {
	case fx < fy:
		return -1
	case fx > fy:
		return 1
	default:
		return 0
	}
}

// rational is the number, where it is of a sane size: 1e1000000000 would take all memory.
func rational(n json.Number) (*big.Rat, bool) {
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil || len(n) > 100 || f != 0 && (f < 0 && f > -1e-300 || f > 0 && f < 1e-300) || f == 0 && len(n) > 20 {
		return nil, false
	}
	if f == 0 {
		return new(big.Rat), true // 0e999 as well
	}
	return new(big.Rat).SetString(string(n))
}
