// Package e2e holds no code, only the tests of package cli on brokers with a server. It is
// a module of its own, so that who uses cli need not know of their clients.
package e2e
