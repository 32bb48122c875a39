package asyncapi

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// key makes a name fit for a key of AsyncAPI, which holds letters, digits, dots, dashes and
// underscores of ASCII. What else stands there becomes an underscore; whole tells that
// nothing had to.
func key(name string) (k string, whole bool) {
	var b strings.Builder
	for _, r := range name {
		switch {
		case r < 0x80 && (isLetter(byte(r)) || '0' <= r && r <= '9'), r == '.', r == '-', r == '_':
			b.WriteRune(r)
		default:
			b.WriteByte('_')
		}
	}
	if b.Len() == 0 {
		return "_", false
	}
	return b.String(), b.String() == name
}

// hash is a short one of an identity, for what no name tells apart.
func hash(identity string) string {
	sum := sha256.Sum256([]byte(identity))
	return hex.EncodeToString(sum[:4])
}

// A claim is one thing that needs a key of its own.
type claim struct {
	// names are those that it would have, the nicest first. The last must be one that
	// nothing else has.
	names []string
	// exact: the first name is what the thing is really called. It has the name before
	// those whose name only became equal.
	exact bool
}

// assign gives each claim a key. Those that want the same one all go on to their next
// names, so that keys do not depend on the order of the claims.
func assign(claims []claim) []string {
	level := make([]int, len(claims))
	at := func(i int) string { return claims[i].names[level[i]] }
	for {
		wanted := make(map[string][]int)
		for i := range claims {
			wanted[at(i)] = append(wanted[at(i)], i)
		}
		moved := false
		for _, who := range wanted {
			if len(who) < 2 {
				continue
			}
			exact := 0
			for _, i := range who {
				if claims[i].exact && level[i] == 0 {
					exact++
				}
			}
			for _, i := range who {
				if exact == 1 && claims[i].exact && level[i] == 0 {
					continue // it stays
				}
				if level[i]+1 < len(claims[i].names) {
					level[i]++
					moved = true
				}
			}
		}
		if moved {
			continue
		}
		return unique(claims, at)
	}
}

// unique numbers what is still the same: by their order, as nothing else tells them apart.
func unique(claims []claim, at func(int) string) []string {
	keys := make([]string, len(claims))
	taken := make(map[string]bool)
	for i := range claims {
		k := at(i)
		for n := 2; taken[k]; n++ {
			k = at(i) + "-" + strconv.Itoa(n)
		}
		taken[k] = true
		keys[i] = k
	}
	return keys
}
