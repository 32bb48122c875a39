package kafka

// DoneUpTo is up to where everything is settled by a commit: its offset, and what its
// metadata says of what follows at once.
func DoneUpTo(offset int64, metadata string) int64 {
	set := parseSettled(metadata, offset)
	if len(set.spans) > 0 && set.spans[0].first == offset {
		return set.spans[0].last + 1
	}
	return offset
}
