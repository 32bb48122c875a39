// Package browsertest has no code, only tests of package viewer in a browser: that the
// page shows a document, runs nothing that stands in it, and asks no other host. It is a
// module of its own, so that who uses the viewer does not see what drives the browser.
//
// The tests need Chromium, and are skipped where there is none; with
// GOSTREAM_REQUIRE_CHROMIUM set they fail instead. On Debian:
//
//	apt-get install -y chromium
//	go test ./asyncapi/viewer/browsertest
//
// The picture in the documentation is made here, too:
//
//	go test ./asyncapi/viewer/browsertest -run TestScreenshot -args -screenshot "$PWD/docs/images/asyncapi-viewer.png"
package browsertest
