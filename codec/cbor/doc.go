// Package cbor is a codec for CBOR (RFC 8949), on github.com/fxamacker/cbor.
//
//	r.Handle("orders", gostream.Consume(f), gostream.WithCodec(cbor.New()))
//
// Its content type is "application/cbor".
//
// What it writes is deterministic, by section 4.2.1 of the RFC: the same value has the
// same bytes. Map keys are sorted, numbers as short as they can be, no length is
// indefinite. A time is RFC 3339 text in UTC, with its nanoseconds, in tag 0.
//
// What it reads:
//
//   - a key that occurs twice in a map or a struct is an error;
//   - indefinite lengths are read;
//   - of tags, 0 and 1 are times, 2 and 3 are big numbers, and 55799 says that this is
//     CBOR; another tag is looked through where the type is known, and is a cbor.Tag
//     of the library in an interface;
//   - a number that does not fit its field, and text that is not UTF-8, are errors.
//
// A struct is a map by its field names, or by what the tag `cbor:"name"` says, else
// `json:"name"`; of the options there are "omitempty", "omitzero", "keyasint" and
// "toarray". MarshalCBOR and MarshalBinary are used, MarshalJSON and MarshalText are
// not. In an interface a map comes back as map[any]any, and a whole number as uint64,
// int64 or big.Int.
//
// Payloads come from outside: their structure is checked before anything is allocated,
// and there are limits on size and depth.
package cbor
