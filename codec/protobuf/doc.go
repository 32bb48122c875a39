// Package protobuf is a codec for Protocol Buffers, on google.golang.org/protobuf.
//
//	r.Handle("orders", gostream.Consume(f), gostream.WithCodec(protobuf.New()))
//
// where f is a func(ctx context.Context, o *pb.Order) error. Its content type is
// "application/protobuf". Others in use are "application/x-protobuf" and
// "application/vnd.google.protobuf": a codec for one of them is made with
// [ContentType], and one of each can stand in gostream.Codecs.
//
// T must be a pointer to a generated message. The message itself works too, but go
// vet reports it as a copied lock, and publishing it copies it. Every other type is an
// error that names it. A nil message is an error of Append: the payload would be that
// of an empty one.
//
// An empty payload is a message with nothing set, and the wire format does not say
// which message it is: a payload of another type may decode to one with little set and
// many unknown fields. Check what must be there. Unknown fields are kept, and written
// again. A proto2 message without its required fields is an error in both directions.
// Equal messages need not have equal bytes.
//
// Payloads come from outside: there are limits on size and depth.
package protobuf
