// Package viewer serves a page that shows an AsyncAPI document: servers, channels,
// operations, messages and schemas. Everything that the page needs is in the binary; it
// asks no other host, and its Content-Security-Policy lets it ask none.
//
// The page is made by the React component of the AsyncAPI Initiative, which is licensed
// under the Apache License 2.0; its licences are in the folder assets and are served with
// the page. Command internal/generate brings the component in.
package viewer

//go:generate go run ./internal/generate -out assets
