package embedded

import "testing"

// What no client can see.
func TestOptions(t *testing.T) {
	t.Parallel()
	for _, sync := range []bool{false, true} {
		o := Config{Dir: "d", SyncAlways: sync}.options("d")
		if o.SyncAlways != sync {
			t.Errorf("with SyncAlways %t the server has %t", sync, o.SyncAlways)
		}
		if !o.NoSigs {
			t.Error("the server handles signals")
		}
	}
}
