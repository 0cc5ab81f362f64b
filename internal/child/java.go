package child

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// JavaVariables returns the environment variables that give every JVM the proxy at
// host and port, added to what they have; hosts that noProxy lists, separated by
// commas, stay direct. JDK_JAVA_OPTIONS and _JAVA_OPTIONS override JAVA_TOOL_OPTIONS:
// where they name a proxy of their own, they get this one too, and the last one counts.
func JavaVariables(host, port, noProxy string) (set [][2]string) {
	options := javaOptions(host, port, noProxy)
	for _, name := range []string{"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"} {
		given := os.Getenv(name)
		if name == "JAVA_TOOL_OPTIONS" || strings.Contains(strings.ToLower(given), "proxy") {
			set = append(set, [2]string{name, strings.TrimSpace(given + " " + options)})
		}
	}
	return set
}

// javaOptions returns the system properties that Java's clients read.
func javaOptions(host, port, noProxy string) string {
	var direct []string
	for _, h := range strings.Split(noProxy, ",") {
		if net.ParseIP(h) != nil && strings.Contains(h, ":") {
			h = "[" + h + "]"
		}
		direct = append(direct, h)
	}
	return fmt.Sprintf("-Dhttp.proxyHost=%[1]s -Dhttp.proxyPort=%[2]s -Dhttps.proxyHost=%[1]s -Dhttps.proxyPort=%[2]s -Dhttp.nonProxyHosts=%[3]s",
		host, port, strings.Join(direct, "|"))
}
