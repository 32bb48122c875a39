package nats_test

import (
	"flag"
	"os"
	"testing"
)

// together is how many tests run at once at least. They wait, for leases and for servers,
// much longer than they work: with one for each processor, as is the default, two
// processors are idle most of the time.
const together = "4"

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", together); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
