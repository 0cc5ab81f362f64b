package demo

import (
	"fmt"
	"io"
	"net/http"
)

// controls returns the handler of the address that breaks and repairs the fakes.
func (d *demo) controls() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, d.guide()) })
	for _, u := range d.upstreams {
		mux.HandleFunc("POST /upstreams/"+u.name+"/down", func(w http.ResponseWriter, _ *http.Request) {
			u.down()
			fmt.Fprintf(w, "%s is down: it refuses connections\n", u.name)
		})
		mux.HandleFunc("POST /upstreams/"+u.name+"/up", func(w http.ResponseWriter, _ *http.Request) {
			if err := u.up(); err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			fmt.Fprintf(w, "%s is up\n", u.name)
		})
	}
	for _, x := range d.exchanges {
		mux.HandleFunc("POST /exchanges/"+x.id+"/freeze", func(w http.ResponseWriter, _ *http.Request) {
			x.frozen.Store(true)
			fmt.Fprintf(w, "%s sends no more trades; its connections stay open\n", x.id)
		})
		mux.HandleFunc("POST /exchanges/"+x.id+"/thaw", func(w http.ResponseWriter, _ *http.Request) {
			x.frozen.Store(false)
			fmt.Fprintf(w, "%s sends trades again\n", x.id)
		})
	}
	return d.guarded(mux)
}

// guarded refuses what a page in a browser may send.
func (d *demo) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != d.control.Addr().String() || r.Header.Get("Origin") != "" {
			http.Error(w, "use the address that proxyd demo printed, with curl", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
