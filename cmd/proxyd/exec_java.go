package main

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// javaVariables are the environment variables that give every JVM the proxy, added to
// what they have. JDK_JAVA_OPTIONS and _JAVA_OPTIONS override JAVA_TOOL_OPTIONS: where
// they name a proxy of their own, they get this one too, and the last one counts.
func javaVariables(p pointers) (set [][2]string) {
	for _, name := range []string{"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"} {
		given := os.Getenv(name)
		if name == "JAVA_TOOL_OPTIONS" || strings.Contains(strings.ToLower(given), "proxy") {
			set = append(set, [2]string{name, before(given, " ", javaOptions(p))})
		}
	}
	return set
}

// javaOptions are the system properties that Java's clients read.
func javaOptions(p pointers) string {
	var direct []string
	for _, host := range strings.Split(noProxy, ",") {
		if net.ParseIP(host) != nil && strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		direct = append(direct, host)
	}
	return fmt.Sprintf("-Dhttp.proxyHost=%[1]s -Dhttp.proxyPort=%[2]s -Dhttps.proxyHost=%[1]s -Dhttps.proxyPort=%[2]s -Dhttp.nonProxyHosts=%[3]s",
		p.host, p.port, strings.Join(direct, "|"))
}
