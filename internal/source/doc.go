// Package source fetches lists of proxies from URLs, and knows the last good text of each.
//
// It decides nothing: package config judges a text, and the daemon builds a
// configuration with it and puts that in force, or does not. A text that was not put in
// force is not kept, and is fetched again.
//
// # What is never done
//
// No URL is logged or part of an error: its path and its query may be credentials. What
// is kept on disk is named after the pool and the host. No answer is used that did not
// come whole, and none that came from another scheme or host than the configuration
// names.
package source
