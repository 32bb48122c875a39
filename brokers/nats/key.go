package nats

import "github.com/gostream/gostream/broker"

const hexDigits = "0123456789ABCDEF"

// escapeKey writes a partition key so that a header can hold it: '%', white space,
// control characters and what is not ASCII as %XX.
func escapeKey(key []byte) string {
	plain := true
	for _, c := range key {
		plain = plain && isPlain(c)
	}
	if plain {
		return string(key)
	}
	b := make([]byte, 0, 3*len(key))
	for _, c := range key {
		if isPlain(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(b)
}

func isPlain(c byte) bool { return c > ' ' && c < 0x7f && c != '%' }

// unescapeKey is the reverse. A '%' that no two hexadecimal digits follow stands for
// itself: somebody else wrote it.
func unescapeKey(s string) []byte {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if hi, lo := fromHex(s[i+1]), fromHex(s[i+2]); hi >= 0 && lo >= 0 {
				b = append(b, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return b
}

func fromHex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// partitionKey reads the key of a message, nil for none.
func partitionKey(h headerView) []byte {
	s, ok := h.Lookup(broker.HeaderKey)
	if !ok {
		return nil
	}
	return unescapeKey(s)
}
