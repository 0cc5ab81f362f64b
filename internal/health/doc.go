// Package health asks whether an upstream is fit for an exchange: it connects, asks
// for a way, or speaks to the exchange itself, and reads the answer.
package health
