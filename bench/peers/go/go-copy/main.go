// A relay on io.Copy, which uses splice(2) between two TCP connections.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"syscall"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "host:port")
	target := flag.String("target", "", "host:port")
	flag.Parse()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening %d\n", listener.Addr().(*net.TCPAddr).Port)
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go relay(client.(*net.TCPConn), *target)
	}
}

func relay(client *net.TCPConn, target string) {
	defer client.Close()
	connection, err := net.Dial("tcp", target)
	if err != nil {
		log.Print(err)
		return
	}
	upstream := connection.(*net.TCPConn)
	defer upstream.Close()
	up := make(chan struct{})
	go func() {
		half(upstream, client)
		close(up)
	}()
	half(client, upstream)
	<-up
}

// half copies one direction until its end, and passes the end on.
func half(destination, source *net.TCPConn) {
	if _, err := io.Copy(destination, source); err != nil {
		report(err)
	}
	if err := destination.CloseWrite(); err != nil {
		report(err)
	}
}

// report prints an error. That a peer has reset its connection or gone is everyday business, and a line for each would be part
// of the measured cost.
func report(err error) {
	for _, everyday := range []error{syscall.ECONNRESET, syscall.EPIPE, syscall.ENOTCONN} {
		if errors.Is(err, everyday) {
			return
		}
	}
	log.Print(err)
}
