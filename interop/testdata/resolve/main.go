// Prints the addresses of a name, what a second name is, and the first line of a
// server: NAME PORT NONE.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	name, port, none := os.Args[1], os.Args[2], os.Args[3]
	list, err := net.LookupHost(name)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_, err = net.LookupHost(none)
	var failed *net.DNSError
	found := fmt.Sprint(err)
	if errors.As(err, &failed) && failed.IsNotFound {
		found = "none"
	}
	fmt.Print(strings.Join(list, " "), " ", found, " ")
	c, err := net.Dial("tcp", net.JoinHostPort(name, port))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	line, _ := bufio.NewReader(c).ReadString('\n')
	fmt.Print(line)
}
