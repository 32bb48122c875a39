package viewer_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/gostream/gostream/asyncapi/viewer"
)

// The page below a prefix, with a document from a file that is read anew each time.
func ExampleHandler() {
	page := viewer.Handler(func(context.Context) ([]byte, error) {
		return os.ReadFile("testdata/quickstart.json")
	})
	mux := http.NewServeMux()
	mux.Handle("/docs/", http.StripPrefix("/docs", page))

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/docs/asyncapi.json", nil))
	fmt.Println(w.Code, w.Header().Get("Content-Type"))
	// Output:
	// 200 application/json
}
