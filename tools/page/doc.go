// Package page holds the tests of the page in a real browser.
package page
