// Package schema holds the published schema of the configuration to a validator
// that editors' users would know: what proxyd check takes, it takes too.
package schema
