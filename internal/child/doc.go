// Package child runs one command in place of this process: it passes on signals,
// the terminal and the exit code, takes in orphans where it is process 1, and
// makes the Python, Node and Java of the command use the proxy that its environment
// names. It knows nothing of proxyd.
package child
