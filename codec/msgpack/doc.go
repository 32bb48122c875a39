// Package msgpack is a codec for MessagePack.
//
//	r.Handle("orders", gostream.Consume(f), gostream.WithCodec(msgpack.New()))
//
// Its content type is "application/msgpack". Others in use are
// "application/vnd.msgpack" and "application/x-msgpack": a codec for one of them is
// made with [ContentType], and one of each can stand in gostream.Codecs.
//
// A struct is a map by its field names, or by what the tag `msgpack:"name"` says, else
// `json:"name"`; "omitempty", "omitzero", "-" and embedded structs are as in
// encoding/json, other options mean nothing. Names are compared exactly. []byte and
// [N]byte are bin, [time.Time] is the timestamp extension and comes back in UTC. Another
// type with MarshalText and UnmarshalText is a str, else with MarshalBinary and
// UnmarshalBinary a bin. In an interface a map comes back as map[any]any, a whole number
// as int64, or uint64 where it is too large for that, and another number as float64.
//
// What it writes is deterministic: the same value has the same bytes. Map keys are
// sorted by theirs, numbers are as short as they can be.
//
// What it reads is the same in Go, or an error: a whole number that does not fit its
// field, a fraction for a whole number, a text that is not UTF-8, an array of another
// length than that of the Go array, a key that occurs twice in a map or a field. A
// number for a float field is rounded where that is needed. nil is the zero value of
// any type. Fields that the struct has not are skipped, and str and bin are taken for
// one another, since old writers know but one of them. Of extensions the timestamp is
// known.
//
// Payloads come from outside: what they announce is compared with what is there, memory
// grows with what has been read, and there are limits on size and depth.
package msgpack
