package schema

// beyond are the invalid files in which a schema sees nothing wrong, by what it
// cannot see.
var beyond = map[string][]string{
	"the grammar of a text: URLs, addresses, hosts, names, budgets": {
		"admin-bad", "admin-port", "admin-socket-bad", "admin-socket-long", "admin-socket-relative",
		"admin-token-empty", "admin-token-with-a-line-end", "admin-token-with-a-space", "allow-private-bad",
		"buffer-too-small", "fleet-url-addr", "fleet-url-bad", "fleet-url-cluster-database", "fleet-url-database",
		"fleet-url-master", "fleet-url-parameter", "fleet-url-port", "exchange-hosts-bad", "exchange-hosts-bad-by-kind", "exchange-name-bad",
		"limits-out-of-range", "listen-allow", "listen-no-client", "listen-users", "member-is-reject",
		"member-name-bad", "pool-name-bad", "route-hosts-bad", "secret-empty-name", "secret-not-closed",
		"several-at-once", "url-control-character", "url-control-characters", "url-direct", "url-host",
		"url-ipv6-without-brackets", "url-not-one", "url-path", "url-port", "url-scheme", "url-userinfo",
		"url-userinfo-too-long", "via-reject",
	},
	"what other keys say: names, duplicates, which keys fit together": {
		"admin-among-listeners", "admin-among-listeners-of-any-address", "admin-local-token-without-one",
		"exchange-host-twice", "exchange-twice", "exchange-unknown", "limits-on-an-outbound-of-no-exchange",
		"limits-published-of-a-pool", "limits-shared-of-a-pool", "limits-shared-without-a-fleet",
		"limits-shared-without-an-exit", "limits-without-an-outbound", "listen-open", "listen-twice", "member-is-a-pool",
		"member-is-proxyd-itself", "member-is-the-admin-server", "member-one-name-two-upstreams",
		"member-other-password", "member-two-names-one-upstream", "outbound-inline-pool-empty", "outbound-names-none",
		"outbound-pool-under-url", "outbound-unknown-pool", "outbound-url-under-pool", "outbound-word-under-pool", "pool-name-taken",
		"proxy-block-and-the-same-key-beside", "silence-and-stall", "tls-not-https", "via-circle", "via-itself",
		"via-of-direct", "via-unknown",
	},
	"files and variables": {
		"admin-socket-directory", "listen-tls-missing", "listen-tls-not-one", "secret-file-missing", "secret-missing",
		"tls-files",
	},
	"how YAML writes a value": {
		"file-two-documents", "key-twice", "number-with-a-leading-zero",
	},
}
