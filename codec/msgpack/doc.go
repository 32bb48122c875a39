// Package msgpack is a codec for MessagePack, on github.com/shamaton/msgpack.
//
//	r.Handle("orders", gostream.Consume(f), gostream.WithCodec(msgpack.New()))
//
// Its content type is "application/msgpack". Others in use are
// "application/vnd.msgpack" and "application/x-msgpack": a codec for one of them is
// made with [ContentType], and one of each can stand in gostream.Codecs.
//
// A struct is a map by its field names, or by what the tag `msgpack:"name"` says;
// "omitempty" and "-" are as in encoding/json. Tags for JSON are not looked at, and
// neither are MarshalJSON, MarshalText and the like. []byte is bin, [time.Time] is
// the timestamp extension and comes back in UTC. In an interface a map comes back as
// map[any]any and a number as the smallest type that its encoding has.
//
// Payloads come from outside: what they announce is compared with what is there
// before anything is allocated, and there are limits on size and depth.
//
// Three things are the library's and cannot be set here: a number that does not fit
// the field that it is decoded to is cut, of a key that occurs twice the last counts,
// and strings need not be UTF-8. Its package variables and AddExtCoder hold for the
// whole process; call them before the app starts.
package msgpack
