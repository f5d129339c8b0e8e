// An HTTP file server on http.ServeContent, which uses sendfile(2).
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "host:port")
	directory := flag.String("directory", ".", "the served directory")
	flag.Parse()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening %d\n", listener.Addr().(*net.TCPAddr).Port)
	log.Fatal(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve(w, r, filepath.Join(*directory, filepath.Clean(r.URL.Path)))
	})))
}

func serve(w http.ResponseWriter, r *http.Request, path string) {
	file, err := os.Open(path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// Without a type ServeContent would read the beginning of the file to guess one, which no other peer does.
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, path, info.ModTime(), file)
}
